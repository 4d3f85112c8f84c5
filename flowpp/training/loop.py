"""The training loop."""

from __future__ import annotations

import math
import signal
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from flowpp.config import Config
from flowpp.config.build import float32_meaning
from flowpp.config.serialization import to_dict
from flowpp.data import ImageSet
from flowpp.evaluation.grids import save_grid
from flowpp.model import FlowPlusPlus
from flowpp.runs import environment
from flowpp.runs.checkpoint import Checkpoint
from flowpp.runs.metrics import HELD_OUT
from flowpp.runs.run import Run
from flowpp.runtime import random_state
from flowpp.runtime.determinism import deterministic_algorithms
from flowpp.runtime.distributed import SINGLE_PROCESS, ProcessGroup
from flowpp.runtime.files import write_json
from flowpp.runtime.precision import float32_precision
from flowpp.runtime.signals import DeferredSignals, TrainingInterrupted
from flowpp.training import non_finite
from flowpp.training.batches import SHARE_OF_MEMORY, NoisyImages
from flowpp.training.captured_step import capturing
from flowpp.training.compiled_blocks import compile_blocks
from flowpp.training.first_batch import check_first_batch
from flowpp.training.gradients import averaging_gradients
from flowpp.training.held_out import evaluate_held_out
from flowpp.training.initial_weights import InitialWeights, start_as_recorded, start_from
from flowpp.training.interruptions import Interruptions
from flowpp.training.learning_rate import learning_rate
from flowpp.training.progress import Throughput
from flowpp.training.result import Result, final_result
from flowpp.training.resume import finished_result, resume_run, trained_images
from flowpp.training.run_logger import RunLogger
from flowpp.training.setup import Prepared, checked_settings, first_lines, initial_state, prepare
from flowpp.training.state import TrainingState
from flowpp.training.step import TrainingStep, steps_between_reads
from flowpp.training.unread import Moment, UnreadStep


def train(
    config: Config,
    out_dir: Path | str,
    prepared: Prepared | None = None,
    *,
    resume: bool = False,
    group: ProcessGroup = SINGLE_PROCESS,
    init_from: Path | str | None = None,
) -> Result:
    """Train a model and write a run directory.

    On the same machine, with the same number of threads and processes, a resumed run ends with the
    same bits as an uninterrupted one.

    Args:
        config: All settings.
        out_dir: Run directory: new or empty, or with `resume` that of the run to resume.
        prepared: Return value of `prepare(config)`, if the caller already has it.
        resume: Continue from the newest valid checkpoint, or from the start if there is none. The
            result of a run that has finished with the same settings is returned as it is.
        group: Processes that train together; `config.training.batch_size` counts the images of
            one step in all of them.
        init_from: Run or checkpoint file whose averaged weights to start from. They, and those of
            a prepared model that is not fresh, are not initialized from data.

    Raises:
        CheckpointError: No valid checkpoint, checkpoints of another model or other data, or
            weights to start from that do not fit.
        NonFiniteError: Loss or gradient were infinite or NaN for too many steps in a row.
        OSError: A file could not be written, and the earlier checkpoints are intact; or another
            process is training in the directory.
        ResumptionError: The run has already done more steps than `config` asks for, or its metrics
            are damaged.
        TrainingInterrupted: A signal was received; the run has been saved.
        TypeError: Settings that are not a `Config`.
        ValueError: The run directory is neither new nor a run; `init_from` with `resume`; a first
            batch that nothing can be initialized from.
    """
    config = checked_settings(config, prepared)
    settings = config.training
    if resume and init_from is not None:
        raise ValueError("a resumed run has weights: init_from must be left out")
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    images, model = prepared or prepare(config, group)
    source = start_from(init_from, model, group) if init_from is not None else None
    if not (resume or model.initialized):
        check_first_batch(settings, images)
    with (
        deterministic_algorithms(enabled=settings.deterministic),
        float32_precision(float32_meaning(settings.precision)),
    ):
        device = next(model.parameters()).device
        described = environment.describe(device, settings.seed, images, settings.precision)
        described |= {} if source is None else {"init_from": source.record}
        path = Path(out_dir)
        with ExitStack() as lock, DeferredSignals() as signals:
            run = group.from_main(
                lambda: lock.enter_context(
                    Run.open(path).locked()
                    if resume
                    else Run.create_locked(path, config, described)
                )
            )
            if resume:
                done = group.from_main(lambda: finished_result(run, images, config))
                if done is not None:
                    return done
            return _train(config, run, images, model, group, signals, source, resume=resume)


def _train(
    config: Config,
    run: Run,
    images: ImageSet,
    model: FlowPlusPlus,
    group: ProcessGroup,
    signals: DeferredSignals,
    source: InitialWeights | None,
    *,
    resume: bool,
) -> Result:
    checkpoint: Checkpoint | None = None
    notes: list[str] = []
    if resume:
        device = next(model.parameters()).device
        checkpoint, notes = resume_run(run, images, device, group, config)
        images = trained_images(checkpoint, images)
        source = start_as_recorded(run, model, group) if checkpoint is None else None
    state, inputs = initial_state(config, images, model, group, checkpoint)
    with RunLogger(run, config.training.steps, state.step, silent=not group.is_main) as logger:
        trainer = Trainer(config, run, images, state, inputs, group, signals, logger)
        if checkpoint is None:
            trainer.save_start()
        for line in (*first_lines(config, images, model, run.path, source), *notes):
            logger.message(line)
        if not inputs.on_device:
            logger.message(
                "the training images stay in the host's memory: they would take more than "
                f"{SHARE_OF_MEMORY:.0%} of the GPU's free memory"
            )
        if state.step < config.training.steps:
            compile_blocks(model, images.shape, config.training, group, logger.message)
        trainer.run_steps()
        with signals.immediate():
            result = final_result(
                state, run, images, config.training, group=group, stopped=trainer.stopped
            )
            result = replace(result, augmentation=config.data.augmentation)
        if group.is_main:
            write_json(run.path / "result.json", asdict(result))
    return result


class Trainer:
    """Training steps, with evaluation, logging and checkpoints between them.

    All processes call each method together; collective operations are marked by `group`.
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
        self.config, self.settings = config, config.training
        self.run, self.images, self.state, self.inputs = run, images, state, inputs
        self.group, self.signals, self.logger = group, signals, logger
        self.model: nn.Module = state.model
        if group.size > 1:
            self.model = averaging_gradients(state.model)
        records = run.metrics() if group.is_main else []  # others may not have the file
        bounds = (r[HELD_OUT] or math.inf for r in records if HELD_OUT in r)
        self.best = min(bounds, default=math.inf)
        self.interruptions = Interruptions(state, self.settings, signals, group)
        step = TrainingStep(self.model, state, self.settings, group)
        self.compute = capturing(step, self.settings, group, logger.message)
        self.read_every = steps_between_reads(state.device, self.settings)
        self.unread: list[UnreadStep] = []
        self.stopped: str | None = None

    def save_start(self) -> None:
        """Write the settings, a grid of held-out images and the first checkpoint."""
        if self.group.is_main:
            held_out = self.images.held_out[: self.settings.sample_count]
            self.logger.log_start(to_dict(self.config), held_out, self.images.levels)
            save_grid(self.run.path / "samples" / "held-out.png", held_out, self.images.levels)
        self.save()

    def run_steps(self) -> None:
        """Do the remaining steps, if the time suffices; a checkpoint precedes each evaluation."""
        state, settings = self.state, self.settings
        self.throughput = Throughput(state.step)
        if state.step and self.interruptions.agreed()[2]:  # resumed
            self.stop()
        while state.step < settings.steps and self.stopped is None:
            if state.step and state.step % settings.evaluate_every == 0:
                self.evaluate()
            self.step()
        self.evaluate()

    def step(self) -> None:
        """Start one training step, and read its loss if it is time to."""
        state = self.state
        before = Moment.of(state)
        rate = learning_rate(state.step + 1, self.settings)
        batch = self._next_batch()
        for parameter_group in state.optimizer.param_groups:
            parameter_group["lr"] = rate
        outcome = self.compute(*batch)
        state.step += 1
        self.unread.append(UnreadStep(before, rate, outcome))
        if self._must_read():
            self.read()

    def read(self) -> None:
        """Read losses and gradient norms of the steps since the last read; log and save if due."""
        unread, self.unread = self.unread, []
        # The only place where the host waits for the device.
        outcomes = torch.stack([step.outcome for step in unread]).tolist()
        stop, overdue, out_of_time = self.interruptions.agreed()
        for index, (step, (loss, norm)) in enumerate(zip(unread, outcomes, strict=True)):
            if not (math.isfinite(loss) and math.isfinite(norm)):
                self.skip(unread[index:], loss, norm if math.isfinite(loss) else math.nan)
                break
            self.accept(step, loss, norm)
        if stop or overdue or out_of_time or self._is_milestone():
            self.save()
        if out_of_time:
            self.stop()
        if stop:
            raise TrainingInterrupted(self.signals.received or signal.SIGTERM)

    def stop(self) -> None:
        """End training after `training.minutes`, unless this was the last step."""
        step, settings = self.state.step, self.settings
        if step < settings.steps:
            self.stopped = f"after {settings.minutes:g} minutes at step {step} of {settings.steps}"
            self.logger.message(f"stopped {self.stopped}")

    def accept(self, step: UnreadStep, loss: float, norm: float) -> None:
        """Record a finite step."""
        self.state.skipped_in_a_row = 0
        self.state.recent.append(loss / (math.prod(self.images.shape) * math.log(2)))
        self._log_step(step, norm)

    def skip(self, unread: list[UnreadStep], loss: float, norm: float) -> None:
        """Skip the first of these steps, and keep its batch and the state before it.

        The steps after it did not change the weights: the host forgets them.

        Raises:
            NonFiniteError: Too many steps in a row were skipped.
        """
        state, step = self.state, unread[0]
        problem = f"step {step.number}: the loss is {loss} and the gradient's norm is {norm}"
        self.logger.message(f"{problem}; skipped")
        batch = self._return_to_the_end_of(unread)
        state.optimizer.zero_grad()
        state.skipped += 1
        state.skipped_in_a_row += 1
        captured = state.capture(self.config, self.images, self.group)
        before = {f"random/{name}": self.group.gather(t) for name, t in step.before.random.items()}
        folder = self.run.path / "non-finite"
        if self.group.is_main:
            non_finite.save_batch(folder, captured, before, *batch)
        if state.skipped_in_a_row >= self.settings.max_non_finite:
            # The same dropout as in the step, to find the layer.
            random_state.set_torch_state(step.before.random, state.device)
            parts = self.settings.accumulate * self.group.size
            cause = non_finite.find_cause(state.model, *batch, parts=parts)
            raise non_finite.NonFiniteError(
                f"{problem}, after {state.skipped_in_a_row} skipped steps in a row: {cause}; "
                f"batches and states are in {folder}; try a lower training.learning_rate"
            )
        self._log_step(step, norm)

    def _return_to_the_end_of(self, unread: list[UnreadStep]) -> tuple[Tensor, ...]:
        """Set the state to that after the first of these steps; return its whole batch."""
        state = self.state
        random_after = (unread[1].before if len(unread) > 1 else Moment.of(state)).random
        unread[0].before.restore(state)
        own = self._next_batch()
        random_state.set_torch_state(random_after, state.device)
        state.step += 1
        self.compute.resume()
        return tuple(self.group.gather(part).flatten(0, 1).to(state.device) for part in own)

    def _next_batch(self) -> tuple[Tensor, ...]:
        """Draw the next batch: images, noise and contexts of this process's rows."""
        indices = next(self.state.batches)
        return self.inputs.draw(indices[self.group.rows(len(indices))], self.state.noise)

    def _must_read(self) -> bool:
        """Return whether to wait for the device; the answer is the same in all processes."""
        state, settings = self.state, self.settings
        return (
            len(self.unread) >= self.read_every
            or state.skipped_in_a_row > 0  # until a step is finite
            or state.step % settings.log_every == 0
            or self._is_milestone()
            or (self.group.size == 1 and self.interruptions.in_this_process())
        )

    def _log_step(self, step: UnreadStep, norm: float) -> None:
        """Advance the progress bar, and log the steps since the last log line if due."""
        self.logger.advance()
        if step.number % self.settings.log_every == 0 or step.number == self.settings.steps:
            self.log_interval(step.number, step.rate, norm)

    def log_interval(self, step: int, rate: float, grad_norm: float) -> None:
        """Log the steps since the last log line."""
        state = self.state
        steps_per_second = self.throughput.steps_per_second(step)
        self.logger.log_training(
            {
                "step": step,
                "bits_per_dim": _mean(state.recent),
                "learning_rate": rate,
                "grad_norm": grad_norm,
                "skipped": state.skipped,
                "images_per_second": steps_per_second * self.settings.batch_size,
            }
        )
        state.recent = []

    def save(self) -> None:
        """Write a checkpoint."""
        captured = self.state.capture(self.config, self.images, self.group)
        if self.group.is_main:
            self.run.save(captured)
        self.interruptions.saved()

    def evaluate(self) -> None:
        """Evaluate on held-out images, and keep the checkpoint if it is the best so far."""
        with self.throughput.paused():
            with self.signals.immediate():  # the state has been saved
                bound = self._held_out_bound()
            if bound < self.best and self.group.is_main:
                self.run.keep_as_best(self.state.step)
            self.best = min(self.best, bound)

    def _held_out_bound(self) -> float:
        """Log the evaluation of the averaged weights; return its bits per dimension."""
        found = evaluate_held_out(
            self.state, self.images, self.settings, self.group, self.logger.message
        )
        if found.diagnosis is not None:
            self.logger.log_evaluation(
                self.state.step, found.terms, found.diagnosis, found.samples, self.images.levels
            )
        return found.terms["bits_per_dim"].mean

    def _is_milestone(self) -> bool:
        """Return whether a checkpoint is due after this step, regardless of the time."""
        step, settings = self.state.step, self.settings
        periods = (settings.evaluate_every, settings.checkpoint_every)
        return step == settings.steps or any(p is not None and step % p == 0 for p in periods)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else math.nan
