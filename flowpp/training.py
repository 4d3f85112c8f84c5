"""The training loop, to be read from top to bottom."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from flowpp import baselines, computing, data, environment, evaluation, importance, sampling
from flowpp.checkpoint import Checkpoint
from flowpp.config import Config
from flowpp.ema import EMA
from flowpp.files import write_json
from flowpp.initialization import initialize
from flowpp.model import FlowPlusPlus, build_model
from flowpp.optimizer import Adam, clip_by_global_norm, learning_rate
from flowpp.progress import Progress
from flowpp.runs import Run, to_device


class NonFiniteError(RuntimeError):
    """The loss or its gradient is infinite or NaN."""


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


def prepare(config: Config) -> tuple[data.ImageSet, FlowPlusPlus]:
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
    generator = torch.Generator().manual_seed(settings.seed)
    model = build_model(
        config.model, image_shape=images.shape, levels=images.levels, generator=generator
    )
    computing.configure(model, memory=settings.memory, precision=settings.precision)
    return images, to_device(model, settings.device)


def train(
    config: Config, out_dir: Path | str, prepared: tuple[data.ImageSet, FlowPlusPlus] | None = None
) -> Result:
    """Train a model and leave a run directory behind.

    Args:
        config: all settings.
        out_dir: the run directory, new or empty.
        prepared: what `prepare(config)` returned, if the caller has it already.

    Raises:
        NonFiniteError: loss or gradient became infinite or NaN.
    """
    settings = config.training
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    images, model = prepared or prepare(config)
    device = torch.device(settings.device)
    dims = math.prod(images.shape)
    train_images = torch.from_numpy(images.train)
    run = Run.create(Path(out_dir), config, environment.describe(device, settings.seed, images))
    sampling.save_grid(
        run.path / "samples" / "held-out.png", images.test[: settings.sample_count], images.levels
    )
    began = time.perf_counter()

    # Two sources of randomness: torch's own for dropout, and a generator for batches and noise.
    torch.manual_seed(settings.seed)
    generator = torch.Generator().manual_seed(settings.seed)

    def with_noise(indices: Tensor) -> tuple[Tensor, Tensor]:
        x = train_images[indices].to(device, torch.float32)
        noise = model.dequantizer.draw_noise(
            x.shape, dtype=torch.float32, device=torch.device("cpu"), generator=generator
        )
        return x, noise.to(device)

    model.train()
    first = torch.randperm(len(train_images), generator=generator)[: settings.init_batch_size]
    initialize(model, *with_noise(first))
    ema = EMA(model, settings.ema_decay)
    optimizer = Adam(model.parameters(), settings.learning_rate)
    batches = shuffled_batches(len(train_images), settings.batch_size, generator)

    with SummaryWriter(run.path / "tensorboard") as board, Progress(settings.steps) as progress:
        progress.say(
            f"{config.preset}: {len(images.train)} training images of shape {images.shape}, "
            f"{sum(p.numel() for p in model.parameters()):,} weights, {run.path}"
        )
        recent: list[float] = []
        tick = time.perf_counter()
        for step in range(1, settings.steps + 1):
            x, noise = with_noise(next(batches))
            elbo = model.elbo(x, noise)
            loss = -elbo.total.mean()  # nats per image: the scale that max_grad_norm refers to
            optimizer.zero_grad()
            loss.backward()
            grad_norm = clip_by_global_norm(model.parameters(), settings.max_grad_norm)
            if not (math.isfinite(loss.item()) and math.isfinite(grad_norm.item())):
                raise NonFiniteError(
                    f"step {step}: the loss is {loss.item()} and the gradient's norm "
                    f"{grad_norm.item()}; try a lower training.learning_rate"
                )
            rate = learning_rate(step, settings)
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            ema.update()
            recent.append(loss.item() / (dims * math.log(2)))
            progress.advance()

            if step % settings.log_every == 0 or step == settings.steps:
                tock = time.perf_counter()
                record = {
                    "step": step,
                    "bits_per_dim": sum(recent) / len(recent),
                    "learning_rate": rate,
                    "grad_norm": grad_norm.item(),
                    "images_per_second": len(recent) * settings.batch_size / (tock - tick),
                }
                run.log(record)
                for name, value in record.items():
                    board.add_scalar(f"train/{name}", value, step)
                progress.show(
                    step,
                    f"{record['bits_per_dim']:.3f} bits/dim  rate {rate:.1e}  "
                    f"gradient {record['grad_norm']:.3g}  "
                    f"{record['images_per_second']:.3g} images/s",
                )
                recent, tick = [], tock

            if step % settings.evaluate_every == 0 and step < settings.steps:
                paused = time.perf_counter()
                with ema.applied():
                    estimate = evaluation.one_sample_bound(
                        model, images.test[: settings.evaluation_images], seeded(settings.seed)
                    )
                    drawn = sampling.sample(
                        model, images.shape, settings.sample_count, seeded(settings.seed)
                    )
                model.train()
                run.log({"step": step, "held_out_bits_per_dim": estimate.mean})
                board.add_scalar("held_out/bits_per_dim", estimate.mean, step)
                sampling.save_grid(run.sample_path(step), drawn, images.levels)
                run.save(Checkpoint(step, model.state_dict(), ema.state_dict()))
                progress.say(f"step {step}: held-out bits/dim {estimate}")
                tick += time.perf_counter() - paused

    run.save(Checkpoint(settings.steps, model.state_dict(), ema.state_dict()))
    with ema.applied():
        final = importance.importance_bounds(model, images.test, 1, seed=settings.seed)[1]
        drawn = sampling.sample(model, images.shape, settings.sample_count, seeded(settings.seed))
    sampling.save_grid(run.sample_path(settings.steps), drawn, images.levels)
    result = Result(
        bits_per_dim=final.mean,
        standard_error=final.standard_error,
        uniform=baselines.uniform_code(images),
        histogram=baselines.histogram_code(images),
        steps=settings.steps,
        seconds=time.perf_counter() - began,
        samples=str(run.sample_path(settings.steps)),
    )
    write_json(run.path / "result.json", asdict(result))
    return result


def shuffled_batches(count: int, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Indices of endless epochs, each in a fresh order without replacement.

    What is left at an epoch's end and fills no batch is dropped; the next order mixes it in again.
    """
    while True:
        order = torch.randperm(count, generator=generator)
        for begin in range(0, count - batch_size + 1, batch_size):
            yield order[begin : begin + batch_size]


def seeded(seed: int) -> torch.Generator:
    """Evaluations draw from a generator of their own, so that they do not disturb the training."""
    return torch.Generator().manual_seed(seed)
