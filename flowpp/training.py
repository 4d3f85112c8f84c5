"""The training loop, to be read from top to bottom."""

from __future__ import annotations

import math
import signal
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from flowpp import (
    baselines,
    computing,
    data,
    diagnostics,
    environment,
    evaluation,
    importance,
    non_finite,
    random_state,
    resumption,
    sampling,
)
from flowpp.batches import ShuffledBatches
from flowpp.checkpoint import Checkpoint
from flowpp.config import Config, TrainingConfig, to_dict
from flowpp.deterministic import deterministic_algorithms
from flowpp.distributed import ALONE, Group, local_device
from flowpp.ema import EMA
from flowpp.files import write_json
from flowpp.initialization import initialize
from flowpp.interruption import InterruptedRun, Interruption
from flowpp.model import FlowPlusPlus, build_model
from flowpp.non_finite import NonFiniteError as NonFiniteError  # raised by `train`
from flowpp.optimizer import Adam, clip_by_global_norm, learning_rate
from flowpp.random_state import seeded
from flowpp.recorder import Recorder
from flowpp.runs import HELD_OUT, Run, to_device
from flowpp.state import TrainingState

Prepared = tuple[data.ImageSet, FlowPlusPlus]


@dataclass(frozen=True)
class Result:
    """What a run ends with; bits per dimension of the held-out images."""

    bits_per_dim: float
    """One-sample bound with averaged weights, over the whole test split."""
    standard_error: float
    uniform: float
    histogram: float
    steps: int
    seconds: float
    """Initialization, training and evaluations; not loading data and building the model."""
    samples: str
    """The last sample grid."""


def prepare(config: Config, group: Group = ALONE) -> Prepared:
    """Images and a fresh model; every mistake in the settings shows here.

    Raises:
        FileNotFoundError: a data file is missing.
        TypeError, ValueError: the settings do not describe a model or a run.
    """
    settings = config.training
    images = data.load(config.data)
    for name in ("batch_size", "init_batch_size"):
        if getattr(settings, name) > len(images.train):
            raise ValueError(
                f"training.{name} must be at most the {len(images.train)} training images of "
                f"{images.name}, got {getattr(settings, name)}"
            )
    if settings.batch_size % group.size:
        raise ValueError(
            f"training.batch_size must be a multiple of the {group.size} processes, "
            f"got {settings.batch_size}"
        )
    if settings.accumulate > settings.batch_size // group.size:
        raise ValueError(
            f"training.accumulate must be at most the {settings.batch_size // group.size} images "
            f"of one process, got {settings.accumulate}"
        )
    generator = torch.Generator().manual_seed(settings.seed)
    model = build_model(
        config.model, image_shape=images.shape, levels=images.levels, generator=generator
    )
    computing.configure(model, memory=settings.memory, precision=settings.precision)
    return images, to_device(model, local_device(settings.device))


def train(
    config: Config,
    out_dir: Path | str,
    prepared: Prepared | None = None,
    *,
    resume: bool = False,
    group: Group = ALONE,
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
        InterruptedRun: a signal asked for it; the run has been saved.
        NonFiniteError: loss or gradient were infinite or NaN for too many steps in a row.
        OSError: something could not be written, and the checkpoints so far are as they were; or
            another process trains in the directory.
        ValueError: the run directory is neither new nor a run.
    """
    settings = config.training
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    images, model = prepared or prepare(config, group)
    with deterministic_algorithms(wanted=settings.deterministic):
        if group.first and not resume:
            device = next(model.parameters()).device
            described = environment.describe(device, settings.seed, images)
            Run.create(Path(out_dir), config, described)
        group.wait()
        run = Run.open(Path(out_dir))
        with run.locked() if group.first else nullcontext(), Interruption() as interruption:
            if resume and (done := resumption.finished(run, images, config, Result)):
                return done
            return _train(config, run, images, model, group, interruption, resume=resume)


def _train(
    config: Config,
    run: Run,
    images: data.ImageSet,
    model: FlowPlusPlus,
    group: Group,
    interruption: Interruption,
    *,
    resume: bool,
) -> Result:
    settings = config.training
    device = next(model.parameters()).device
    train_images = torch.from_numpy(images.train)
    facts: dict[str, Any] = {
        "config": to_dict(config),
        "data_sha256": images.sha256,
        "image_shape": list(images.shape),
        "levels": images.levels,
    }

    # Two sources of randomness: torch's own for dropout, and a generator for batches and noise.
    # The generator is the same in every process: each draws for all, and takes its rows.
    random_state.seed_all(settings.seed, group.rank)
    generator = torch.Generator().manual_seed(settings.seed)

    def with_noise(indices: Tensor) -> tuple[Tensor, Tensor]:
        x = train_images[indices].to(device, torch.float32)
        noise = model.dequantizer.draw_noise(
            x.shape, dtype=torch.float32, device=torch.device("cpu"), generator=generator
        )
        return x, noise.to(device)

    checkpoint, notes = resumption.take_up(run, images, group, config) if resume else (None, [])
    began = time.perf_counter()
    model.train()
    first = torch.randperm(len(train_images), generator=generator)[: settings.init_batch_size]
    inputs = with_noise(first)
    if group.first and checkpoint is None:
        initialize(model, *inputs)
    group.share(model)
    state = TrainingState(
        model,
        EMA(model, settings.ema_decay),
        Adam(model.parameters(), settings.learning_rate),
        ShuffledBatches(len(train_images), settings.batch_size, generator),
        device,
        began=began,
    )
    if checkpoint is not None:
        state.restore(checkpoint, group)
    # Buffers are constants: there is nothing to send of them.
    parallel = None
    if group.size > 1:
        parallel = DistributedDataParallel(model, broadcast_buffers=False)
    best = min((r[HELD_OUT] or math.inf for r in run.metrics() if HELD_OUT in r), default=math.inf)

    saved = time.monotonic()

    def save() -> None:
        nonlocal saved
        captured = state.capture(facts, group)
        if group.first:
            run.save(captured)
        saved = time.monotonic()

    if checkpoint is None:
        if group.first:
            sampling.save_grid(
                run.path / "samples" / "held-out.png",
                images.test[: settings.sample_count],
                images.levels,
            )
        save()

    with Recorder(run, settings.steps, state.step, silent=not group.first) as recorder:
        recorder.say(
            f"{config.preset}: {len(images.train)} training images of shape {images.shape}, "
            f"{sum(p.numel() for p in model.parameters()):,} weights, {run.path}"
        )
        for note in notes:
            recorder.say(note)
        tick, ticked = time.perf_counter(), state.step
        while True:
            last = state.step == settings.steps
            if last or (state.step and state.step % settings.evaluate_every == 0):
                paused = time.perf_counter()
                with interruption.at_once():  # the state is on disk
                    bound = _evaluate(state, config, images, group, recorder)
                if bound < best and group.first:
                    run.keep_as_best(state.step)
                best = min(best, bound)
                tick += time.perf_counter() - paused
            if last:
                break

            before = random_state.torch_state(device)
            x, noise = with_noise(next(state.batches))
            rows = group.rows(len(x))
            state.optimizer.zero_grad()
            own_loss = backward(parallel or model, x[rows], noise[rows], settings.accumulate)
            grad_norm = math.nan
            if math.isfinite(own_loss):
                grad_norm = clip_by_global_norm(model.parameters(), settings.max_grad_norm).item()
            due = time.monotonic() - saved > 60 * settings.checkpoint_minutes
            # Agreed upon: signals and clocks differ between processes.
            loss, stop, overdue = group.mean([own_loss, interruption.number is not None, due])
            state.step += 1
            rate = learning_rate(state.step, settings)
            if math.isfinite(loss) and math.isfinite(grad_norm):
                for parameters in state.optimizer.param_groups:
                    parameters["lr"] = rate
                state.optimizer.step()
                state.ema.update()
                state.skipped_in_a_row = 0
                state.recent.append(loss / (x[0].numel() * math.log(2)))
            else:
                what = f"step {state.step}: the loss is {loss} and the gradient's norm {grad_norm}"
                recorder.say(f"{what}; skipped")
                state.optimizer.zero_grad()
                state.skipped += 1
                state.skipped_in_a_row += 1
                captured = _as_before(state.capture(facts, group), before, group)
                folder = run.path / "non-finite"
                if group.first:
                    non_finite.keep(folder, captured, x, noise)
                if state.skipped_in_a_row >= settings.max_non_finite:
                    random_state.set_torch_state(before, device)  # the same dropout again
                    raise non_finite.error(what, state.skipped_in_a_row, model, x, noise, folder)
            recorder.advance()

            if state.step % settings.log_every == 0 or state.step == settings.steps:
                tock = time.perf_counter()
                images_seen = (state.step - ticked) * settings.batch_size
                recorder.step(
                    {
                        "step": state.step,
                        "bits_per_dim": _mean(state.recent),
                        "learning_rate": rate,
                        "grad_norm": grad_norm,
                        "skipped": state.skipped,
                        "images_per_second": images_seen / (tock - tick),
                    }
                )
                state.recent, tick, ticked = [], tock, state.step

            milestone = state.step == settings.steps or any(
                every is not None and state.step % every == 0
                for every in (settings.evaluate_every, settings.checkpoint_every)
            )
            if milestone or overdue or stop:
                save()
            if stop:
                raise InterruptedRun(interruption.number or signal.SIGTERM)

        with interruption.at_once():
            result = _result(state, settings.seed, run, images, group)
        if group.first:
            write_json(run.path / "result.json", asdict(result))
    return result


def backward(model: nn.Module, x: Tensor, noise: Tensor, parts: int) -> float:
    """Gradients of the mean over the batch, one part after another; the loss.

    Nats per image: the scale that `max_grad_norm` refers to. With several processes the gradients
    are averaged over them during the last part. NaN where a layer refuses weights that are not
    finite.
    """
    loss = 0.0
    pieces = list(zip(x.tensor_split(parts), noise.tensor_split(parts), strict=True))
    for number, (x_part, noise_part) in enumerate(pieces, 1):
        early = isinstance(model, DistributedDataParallel) and number < parts
        with model.no_sync() if early else nullcontext():  # type: ignore[operator]
            try:
                elbo = model(x_part, noise_part)
            except ValueError:
                if non_finite.weight(model) is None:
                    raise
                return math.nan
            part = -elbo.total.mean() * (len(x_part) / len(x))
            part.backward()
        loss += part.item()
    return loss


def _evaluate(
    state: TrainingState, config: Config, images: data.ImageSet, group: Group, recorder: Recorder
) -> float:
    """Held-out bits per dimension with averaged weights; recorded, with all that belongs to it."""
    settings, model = config.training, state.model
    with state.ema.applied():
        terms = evaluation.bound_terms(
            model, images.test[: settings.evaluation_images], seeded(settings.seed), group
        )
        if group.first:
            diagnosis = diagnostics.diagnose(model, images.test, seeded(settings.seed))
            drawn = _drawn(model, images, settings, recorder)
    model.train()
    if group.first:
        recorder.held_out(state.step, terms, diagnosis, drawn, images.levels)
    return terms["bits_per_dim"].mean


def _drawn(
    model: FlowPlusPlus, images: data.ImageSet, settings: TrainingConfig, recorder: Recorder
) -> np.ndarray | None:
    """Samples; None where the inverse fails, which is no reason to lose a run."""
    try:
        return sampling.sample(model, images.shape, settings.sample_count, seeded(settings.seed))
    except (ValueError, RuntimeError) as error:
        recorder.say(f"no samples: {error}")
        return None


def _result(
    state: TrainingState, seed: int, run: Run, images: data.ImageSet, group: Group
) -> Result:
    with state.ema.applied():
        final = importance.importance_bounds(state.model, images.test, 1, seed=seed, group=group)[
            1
        ]
    return Result(
        bits_per_dim=final.mean,
        standard_error=final.standard_error,
        uniform=baselines.uniform_code(images),
        histogram=baselines.histogram_code(images),
        steps=state.step,
        seconds=state.elapsed(),
        samples=str(run.sample_path(state.step)),
    )


def _as_before(checkpoint: Checkpoint, states: dict[str, Tensor], group: Group) -> Checkpoint:
    """The checkpoint with torch's random states as they were before the step."""
    earlier = {f"random/{name}": group.gather(tensor) for name, tensor in states.items()}
    return replace(checkpoint, state={**checkpoint.state, **earlier})


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else math.nan
