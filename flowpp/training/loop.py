"""The training loop, to be read from top to bottom."""

from __future__ import annotations

import math
import signal
import time
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from flowpp.config import Config
from flowpp.config.serialization import to_dict
from flowpp.data import ImageSet
from flowpp.evaluation import bound as evaluation
from flowpp.evaluation import diagnostics, sampling
from flowpp.evaluation.images import save_grid
from flowpp.model import FlowPlusPlus
from flowpp.runs import environment
from flowpp.runs.checkpoint import Checkpoint
from flowpp.runs.metrics import HELD_OUT
from flowpp.runs.run import Run
from flowpp.runtime import random_state
from flowpp.runtime.determinism import deterministic_algorithms
from flowpp.runtime.distributed import SINGLE_PROCESS, ProcessGroup
from flowpp.runtime.files import write_json
from flowpp.runtime.random_state import seeded_generator
from flowpp.runtime.signals import DeferredSignals, TrainingInterrupted
from flowpp.training import non_finite
from flowpp.training.batches import NoisyImages, ShuffledBatches
from flowpp.training.ema import EMA
from flowpp.training.gradients import backward, clip_by_global_norm
from flowpp.training.initialization import initialize
from flowpp.training.learning_rate import learning_rate
from flowpp.training.optimizer import Adam
from flowpp.training.progress import Throughput
from flowpp.training.result import Result, final_result
from flowpp.training.resume import finished_result, resume_run
from flowpp.training.run_logger import RunLogger
from flowpp.training.setup import Prepared, prepare
from flowpp.training.state import TrainingState


def train(
    config: Config,
    out_dir: Path | str,
    prepared: Prepared | None = None,
    *,
    resume: bool = False,
    group: ProcessGroup = SINGLE_PROCESS,
) -> Result:
    """Train a model and leave a run directory behind.

    On the same machine, with as many threads and processes, a resumed run ends with the same bits
    as one that was never disturbed.

    Args:
        config: all settings.
        out_dir: the run directory: new or empty, or with `resume` that of the run to go on with.
        prepared: what `prepare(config)` returned, if the caller has it already.
        resume: go on from the newest checkpoint that is whole; from the start if there is none.
            Of a run that is finished, with the same settings, the result is returned.
        group: the processes that train together, for whom `config.training.batch_size` is what
            they see in one step all together.

    Raises:
        CheckpointError: no checkpoint is whole, or they belong to another model or other data.
        TrainingInterrupted: a signal asked for it; the run has been saved.
        NonFiniteError: loss or gradient were infinite or NaN for too many steps in a row.
        OSError: something could not be written, and the checkpoints so far are as they were; or
            another process trains in the directory.
        ResumptionError: the run has done more steps than it is to have.
        ValueError: the run directory is neither new nor a run.
    """
    settings = config.training
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    images, model = prepared or prepare(config, group)
    with deterministic_algorithms(enabled=settings.deterministic):
        if group.is_main and not resume:
            device = next(model.parameters()).device
            described = environment.describe(device, settings.seed, images)
            Run.create(Path(out_dir), config, described)
        group.barrier()
        run = Run.open(Path(out_dir))
        with run.locked() if group.is_main else nullcontext(), DeferredSignals() as signals:
            if resume and (done := finished_result(run, images, config, Result)):
                return done
            return _train(config, run, images, model, group, signals, resume=resume)


def _train(
    config: Config,
    run: Run,
    images: ImageSet,
    model: FlowPlusPlus,
    group: ProcessGroup,
    signals: DeferredSignals,
    *,
    resume: bool,
) -> Result:
    checkpoint, notes = resume_run(run, images, group, config) if resume else (None, [])
    state, inputs = _first_state(config, images, model, group, checkpoint)
    with RunLogger(run, config.training.steps, state.step, silent=not group.is_main) as logger:
        loop = _Loop(config, run, images, state, inputs, group, signals, logger)
        if checkpoint is None:
            loop.save_the_start()
        logger.say(
            f"{config.preset}: {len(images.train)} training images of shape {images.shape}, "
            f"{sum(p.numel() for p in model.parameters()):,} weights, {run.path}"
        )
        for note in notes:
            logger.say(note)
        loop.to_the_end()
        with signals.immediate():
            result = final_result(state, run, images, seed=config.training.seed, group=group)
        if group.is_main:
            write_json(run.path / "result.json", asdict(result))
    return result


def _first_state(
    config: Config,
    images: ImageSet,
    model: FlowPlusPlus,
    group: ProcessGroup,
    checkpoint: Checkpoint | None,
) -> tuple[TrainingState, NoisyImages]:
    """An initialized model and all that trains it, or those of the checkpoint."""
    settings, began = config.training, time.perf_counter()
    # Two sources of randomness: torch's own for dropout, and a generator for batches and noise.
    # The generator is the same in every process: each draws for all, and takes its rows.
    random_state.seed_all(settings.seed, group.rank)
    generator = torch.Generator().manual_seed(settings.seed)
    inputs = NoisyImages(images.train, model, generator)
    model.train()
    first = torch.randperm(len(inputs), generator=generator)[: settings.init_batch_size]
    x, noise = inputs.draw(first)
    if group.is_main and checkpoint is None:
        initialize(model, x, noise)
    group.broadcast(model)
    state = TrainingState(
        model,
        EMA(model, settings.ema_decay),
        Adam(model.parameters(), settings.learning_rate),
        ShuffledBatches(len(inputs), settings.batch_size, generator),
        x.device,
        began=began,
    )
    if checkpoint is not None:
        state.restore(checkpoint, group)
    return state, inputs


class _Loop:
    """Steps, and what is done between them.

    All processes go through it side by side: where one waits for the others, all have agreed to.
    """

    def __init__(
        self,
        config: Config,
        run: Run,
        images: ImageSet,
        state: TrainingState,
        inputs: NoisyImages,
        group: ProcessGroup,
        signals: DeferredSignals,
        logger: RunLogger,
    ) -> None:
        self.settings = config.training
        self.run, self.images, self.state, self.inputs = run, images, state, inputs
        self.group, self.signals, self.logger = group, signals, logger
        self.facts = {
            "config": to_dict(config),
            "data_sha256": images.sha256,
            "image_shape": list(images.shape),
            "levels": images.levels,
        }
        self.model: nn.Module = state.model
        if group.size > 1:  # buffers are constants: there is nothing to send of them
            self.model = DistributedDataParallel(state.model, broadcast_buffers=False)
        bounds = (r[HELD_OUT] or math.inf for r in run.metrics() if HELD_OUT in r)
        self.best = min(bounds, default=math.inf)
        self.saved = time.monotonic()

    def save_the_start(self) -> None:
        """A picture of what is to be learned, and a first checkpoint."""
        if self.group.is_main:
            save_grid(
                self.run.path / "samples" / "held-out.png",
                self.images.test[: self.settings.sample_count],
                self.images.levels,
            )
        self.save()

    def to_the_end(self) -> None:
        """The steps that are left. A checkpoint precedes each evaluation."""
        state, settings = self.state, self.settings
        self.throughput = Throughput(state.step)
        while state.step < settings.steps:
            if state.step and state.step % settings.evaluate_every == 0:
                self.evaluate()
            self.step()
        self.evaluate()

    def evaluate(self) -> None:
        """Held-out numbers; the checkpoint is kept if none was better."""
        with self.throughput.paused():
            with self.signals.immediate():  # the state is on disk
                bound = self.held_out()
            if bound < self.best and self.group.is_main:
                self.run.keep_as_best(self.state.step)
            self.best = min(self.best, bound)

    def held_out(self) -> float:
        """Bits per dimension with averaged weights; recorded, with all that belongs to it."""
        settings, model, seed = self.settings, self.state.model, self.settings.seed
        with self.state.ema.applied():
            looked_at = self.images.test[: settings.evaluation_images]
            terms = evaluation.evaluate_bound(model, looked_at, seeded_generator(seed), self.group)
            if self.group.is_main:
                diagnosis = diagnostics.diagnose(model, self.images.test, seeded_generator(seed))
                drawn = self.samples()
        model.train()
        if self.group.is_main:
            self.logger.held_out(self.state.step, terms, diagnosis, drawn, self.images.levels)
        return terms["bits_per_dim"].mean

    def samples(self) -> np.ndarray | None:
        """None where the inverse fails, which is no reason to lose a run."""
        count, seed = self.settings.sample_count, self.settings.seed
        try:
            generator = seeded_generator(seed)
            return sampling.sample(self.state.model, self.images.shape, count, generator)
        except (ValueError, RuntimeError) as error:
            self.logger.say(f"no samples: {error}")
            return None

    def step(self) -> None:
        """One batch: learned from, or skipped; then what is due after it."""
        state, settings = self.state, self.settings
        before = random_state.torch_state(state.device)
        x, noise = self.inputs.draw(next(state.batches))
        own_loss, grad_norm = self.gradients(x, noise)
        # Agreed upon: signals and clocks differ between processes.
        loss, stop, overdue = self.group.mean(
            [own_loss, self.signals.received is not None, self.is_overdue()]
        )
        state.step += 1
        rate = learning_rate(state.step, settings)
        if math.isfinite(loss) and math.isfinite(grad_norm):
            self.update(rate)
            state.recent.append(loss / (x[0].numel() * math.log(2)))
        else:
            what = f"step {state.step}: the loss is {loss} and the gradient's norm {grad_norm}"
            self.skip(what, before, x, noise)
        self.logger.advance()
        if state.step % settings.log_every == 0 or state.step == settings.steps:
            self.log(rate, grad_norm)
        if overdue or stop or self.is_milestone():
            self.save()
        if stop:
            raise TrainingInterrupted(self.signals.received or signal.SIGTERM)

    def gradients(self, x: Tensor, noise: Tensor) -> tuple[float, float]:
        """This process's loss, and the norm of all processes' gradients before they are cut."""
        rows = self.group.rows(len(x))
        self.state.optimizer.zero_grad()
        loss = backward(self.model, x[rows], noise[rows], self.settings.accumulate)
        if not math.isfinite(loss):
            return loss, math.nan
        norm = clip_by_global_norm(self.state.model.parameters(), self.settings.max_grad_norm)
        return loss, norm.item()

    def update(self, rate: float) -> None:
        """One step of the optimizer, and of the average."""
        for parameters in self.state.optimizer.param_groups:
            parameters["lr"] = rate
        self.state.optimizer.step()
        self.state.ema.update()
        self.state.skipped_in_a_row = 0

    def skip(self, what: str, before: dict[str, Tensor], x: Tensor, noise: Tensor) -> None:
        """Leave the weights as they are, and keep what led to this; too often is an error."""
        state = self.state
        self.logger.say(f"{what}; skipped")
        state.optimizer.zero_grad()
        state.skipped += 1
        state.skipped_in_a_row += 1
        captured = _as_before(state.capture(self.facts, self.group), before, self.group)
        folder = self.run.path / "non-finite"
        if self.group.is_main:
            non_finite.keep(folder, captured, x, noise)
        if state.skipped_in_a_row >= self.settings.max_non_finite:
            random_state.set_torch_state(before, state.device)  # the same dropout again
            raise non_finite.error(what, state.skipped_in_a_row, state.model, x, noise, folder)

    def log(self, rate: float, grad_norm: float) -> None:
        """One line about the steps since the last one."""
        state = self.state
        steps_per_second = self.throughput.steps_per_second(state.step)
        self.logger.step(
            {
                "step": state.step,
                "bits_per_dim": _mean(state.recent),
                "learning_rate": rate,
                "grad_norm": grad_norm,
                "skipped": state.skipped,
                "images_per_second": steps_per_second * self.settings.batch_size,
            }
        )
        state.recent = []

    def is_milestone(self) -> bool:
        """Whether the run is to be saved after this step, whatever the clock says."""
        step, settings = self.state.step, self.settings
        periods = (settings.evaluate_every, settings.checkpoint_every)
        return step == settings.steps or any(p is not None and step % p == 0 for p in periods)

    def is_overdue(self) -> bool:
        """Whether the last checkpoint is too long ago."""
        return time.monotonic() - self.saved > 60 * self.settings.checkpoint_minutes

    def save(self) -> None:
        """Write a checkpoint."""
        captured = self.state.capture(self.facts, self.group)
        if self.group.is_main:
            self.run.save(captured)
        self.saved = time.monotonic()


def _as_before(
    checkpoint: Checkpoint, states: dict[str, Tensor], group: ProcessGroup
) -> Checkpoint:
    """The checkpoint with torch's random states as they were before the step."""
    earlier = {f"random/{name}": group.gather(tensor) for name, tensor in states.items()}
    return replace(checkpoint, state={**checkpoint.state, **earlier})


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else math.nan
