"""One-sample bound in bits per dimension, averaged over images."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import special
from torch import Tensor

from flowpp.config import checks
from flowpp.config.command_line import warn
from flowpp.config.settings import Precision
from flowpp.evaluation.batch_size import Batches
from flowpp.evaluation.contexts import check_contexts, context_tensor
from flowpp.evaluation.precision import evaluated_in
from flowpp.model import FlowPlusPlus
from flowpp.objective import bits_per_dim
from flowpp.runtime.distributed import SINGLE_PROCESS, ProcessGroup
from flowpp.runtime.image_tensors import image_tensor

BATCH = 128


@dataclass(frozen=True)
class Estimate:
    """A mean over images with its standard error.

    The values' spread holds both the differences between images and the noise of the draws that
    each value is computed from, and so does the standard error.
    """

    mean: float
    standard_error: float
    """Standard error of the mean if images were drawn anew; NaN for a single image."""
    count: int

    @classmethod
    def of(cls, values: Tensor) -> Estimate:
        """Return the mean and standard error of one value per image."""
        spread = values.std().item() if len(values) > 1 else math.nan
        return cls(values.mean().item(), spread / math.sqrt(len(values)), len(values))

    @property
    def is_finite(self) -> bool:
        """Whether the mean is neither NaN nor infinite."""
        return math.isfinite(self.mean)

    def __str__(self) -> str:
        """Format mean and standard error."""
        if not self.is_finite:
            return f"not finite ({self.mean})"
        if self.count < 2:
            return f"{self.mean:.4f} (no standard error: a single image)"
        return f"{self.mean:.4f} +- {self.standard_error:.4f}"

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Return the confidence interval of the mean, by Student's t distribution.

        With few images the standard error is itself uncertain, which the interval accounts for.

        Args:
            confidence: Probability that the interval contains the mean over all images, if their
                values are normally distributed.

        Raises:
            ValueError: Fewer than two images.
        """
        if self.count < 2:
            raise ValueError(f"an interval needs at least 2 images, got {self.count}")
        quantile = special.stdtrit(self.count - 1, (1 + confidence) / 2)
        margin = float(quantile) * self.standard_error
        return self.mean - margin, self.mean + margin


def not_finite(bounds: Mapping[int, Estimate]) -> str | None:
    """Describe the bounds that are NaN or infinite, by number of samples; None if none are."""
    failed = {samples: bound.mean for samples, bound in bounds.items() if not bound.is_finite}
    if not failed:
        return None
    listed = ", ".join(f"{mean} with {samples}" for samples, mean in failed.items())
    return f"bits/dim must be finite, got {listed} sample{'s' if max(failed) > 1 else ''}"


def check_arguments(model: FlowPlusPlus, images: np.ndarray) -> None:
    """Require a model, and an array of at least one image.

    Raises:
        TypeError: another class, such as a `TrainedModel` or a tensor; the message says what to
            use.
        ValueError: no images.
    """
    checks.kind_of("model", model, FlowPlusPlus, {"TrainedModel": "model.model"})
    if not isinstance(images, np.ndarray):
        use = ": use images.cpu().numpy()" if isinstance(images, Tensor) else ""
        raise TypeError(f"images must be a NumPy array, got {type(images).__name__}{use}")
    if not len(images):
        raise ValueError("images must be at least 1, got 0")


@torch.no_grad()
def evaluate_bound(
    model: FlowPlusPlus,
    images: np.ndarray,
    generator: torch.Generator,
    group: ProcessGroup = SINGLE_PROCESS,
    *,
    precision: Precision = "float32",
    sequential_noise: bool = False,
    contexts: np.ndarray | None = None,
) -> dict[str, Estimate]:
    """Compute the one-sample bound in bits per dimension, and its terms in the same unit.

    The means satisfy `bits_per_dim` = `log_q` - `log_det` - `log_prior`. The noise of an image is
    the first draw of `importance_bounds` with the same seed: equal weights, images, seeds and
    precisions give the same number, whatever the number of processes.

    Args:
        model: the model, which is put into evaluation mode.
        images: uint8 `(N, C, H, W)`.
        generator: generator whose seed is that of the dequantization noise.
        group: processes that divide the batches; each returns all terms.
        precision: see `evaluated_in`.
        sequential_noise: draw the noise of all images from `generator`, one batch after another,
            as version 0.1.0 did.
        contexts: of a conditional model, a row for each image.

    Returns:
        `bits_per_dim`, `log_q`, `log_det` and `log_prior`.

    Raises:
        TypeError, ValueError: as `check_arguments` and `check_contexts`; a generator of another
            kind.
    """
    check_arguments(model, images)
    check_contexts(contexts, len(images))
    seeds = {"int": "torch.Generator().manual_seed(SEED)"}
    checks.kind_of("generator", generator, torch.Generator, seeds)
    model.eval()
    like = next(model.parameters())
    terms, batches = np.zeros((4, len(images))), Batches(BATCH, warn)
    for number, begin in enumerate(range(0, len(images), BATCH)):
        if number % group.size != group.rank and not sequential_noise:
            continue
        part = images[begin : begin + BATCH]
        noise = evaluation_noise(model, part.shape, generator, begin, sequential=sequential_noise)
        if number % group.size != group.rank:
            continue
        rows = () if contexts is None else (contexts[begin : begin + BATCH],)
        given = (context_tensor(part, like) for part in rows)
        x = image_tensor(part).to(like.device)
        with evaluated_in(model, precision):
            computed = batches.compute(functools.partial(_terms, model), x, noise, *given)
        terms[:, begin : begin + BATCH] = computed.T
    # Each column is computed by one process and zero in the others.
    nats = torch.from_numpy(group.gather_array(terms).sum(0))
    names = ("bits_per_dim", "log_q", "log_det", "log_prior")
    return {
        name: Estimate.of(-bits_per_dim(row, images[0].size))
        for name, row in zip(names, nats, strict=True)
    }


def _terms(model: FlowPlusPlus, x: Tensor, noise: Tensor, *context: Tensor) -> np.ndarray:
    """Return -total, log_q, log_det and log_prior of each image: (B, 4), float64."""
    e = model.elbo(x, noise.to(x.device), *context)
    rows = torch.stack((-e.total, e.log_q, e.log_det, e.log_prior), 1)
    return rows.cpu().double().numpy()


def evaluation_noise(
    model: FlowPlusPlus,
    shape: tuple[int, ...],
    generator: torch.Generator,
    begin: int = 0,
    *,
    sequential: bool = False,
) -> Tensor:
    """Return the noise of images `begin`, `begin` + 1 ..., see `evaluate_bound`.

    Args:
        model: the model, whose dtype the noise has.
        shape: (N, C, H, W) of the images.
        generator: generator whose seed is that of the noise.
        begin: index of the first image.
        sequential: draw the noise from `generator` itself.
    """
    if sequential:
        dtype = next(model.parameters()).dtype
        return model.draw_noise(
            shape, dtype=dtype, device=torch.device("cpu"), generator=generator
        )
    pairs = [(begin + row, 0) for row in range(shape[0])]
    return image_noise(model, shape[1:], generator.initial_seed(), pairs)


def image_noise(
    model: FlowPlusPlus, shape: tuple[int, ...], seed: int, pairs: Sequence[tuple[int, int]]
) -> Tensor:
    """Return noise on the CPU, in the model's dtype, for pairs of an image's index and a draw.

    Each pair has its own random stream, so that its noise is the same in any batch.

    Numerics: torch's CPU generator uses 32 bits of a seed, so about n^2 / 2^33 of n pairs share
    their noise with another one. Expectations are not affected.
    """
    draws = []
    for pair in pairs:
        mixed = np.random.SeedSequence((seed, *pair)).generate_state(1, np.uint64)[0]
        stream = torch.Generator().manual_seed(int(mixed >> np.uint64(1)))
        draws.append(model.draw_noise(shape, dtype=torch.float64, generator=stream))
    dtype = next(model.parameters()).dtype
    return model.round_noise(torch.stack(draws), dtype)
