"""Importance-weighted bound with any number of samples in constant memory."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from flowpp.config import checks
from flowpp.config.command_line import warn
from flowpp.config.settings import Precision
from flowpp.evaluation.batch_size import Batches, measured_rows
from flowpp.evaluation.bound import Estimate, check_arguments, image_noise
from flowpp.evaluation.contexts import blank_contexts, check_contexts, context_tensor
from flowpp.evaluation.precision import evaluated_in
from flowpp.model import FlowPlusPlus
from flowpp.objective import bits_per_dim
from flowpp.runtime.distributed import SINGLE_PROCESS, ProcessGroup
from flowpp.runtime.image_tensors import image_tensor

GROWTH = 4
"""The bound is also returned at the powers of this number of samples: 1, 4, 16, ..."""


def importance_bounds(
    model: FlowPlusPlus,
    images: np.ndarray,
    samples: int,
    *,
    seed: int = 0,
    batch: int = 128,
    progress: Callable[[int], None] = lambda count: None,
    group: ProcessGroup = SINGLE_PROCESS,
    precision: Precision = "float32",
    contexts: np.ndarray | None = None,
) -> dict[int, Estimate]:
    """Compute bits per dimension by log-mean-exp over 1, 4, 16, ... and `samples` samples.

    -log2( mean_s p(x + u_s) / q(u_s|x) ) / D decreases towards -log2 P(x) / D with more samples.
    A smaller number of samples uses the first draws of the larger ones.

    Args:
        model: the model, which is put into evaluation mode.
        images: uint8 `(N, C, H, W)`.
        samples: number of draws per image, at least 1.
        seed: seed of the noise. Each draw of each image has its own random stream, which depends
            on neither `batch` nor the other images.
        batch: number of rows evaluated at once.
        progress: called after each batch with its number of rows.
        group: processes that divide the batches; each returns all bounds.
        precision: see `evaluated_in`.
        contexts: of a conditional model, a row for each image.

    Returns:
        Mean over images and its standard error by number of samples.

    Raises:
        TypeError, ValueError, torch.OutOfMemoryError: As `importance_log_probs`.

    Source: Burda, Grosse and Salakhutdinov 2016, eq. 8; Flow++ section 4.
    """
    bounds = importance_log_probs(
        model, images, samples, seed=seed, batch=batch, progress=progress, group=group,
        precision=precision, contexts=contexts,
    )  # fmt: skip
    return {
        mark: Estimate.of(bits_per_dim(torch.from_numpy(nats), images[0].size))
        for mark, nats in bounds.items()
    }


@torch.no_grad()
def importance_log_probs(
    model: FlowPlusPlus,
    images: np.ndarray,
    samples: int,
    *,
    seed: int = 0,
    batch: int = 128,
    progress: Callable[[int], None] = lambda count: None,
    group: ProcessGroup = SINGLE_PROCESS,
    precision: Precision = "float32",
    contexts: np.ndarray | None = None,
) -> dict[int, np.ndarray]:
    """Compute the bound on log P(x) of each image, with arguments as `importance_bounds`.

    Returns:
        float64 `(N,)` in nats by number of samples. Memory does not depend on `samples`: one
        running sum is kept per image.

    Raises:
        TypeError, ValueError: as `bound.check_arguments` and `check_contexts`; fewer than 1
            sample.
        torch.OutOfMemoryError: a GPU has no memory for one row; with too little for a batch,
            smaller ones are computed, and a line on standard error says so.
    """
    check_arguments(model, images)
    check_contexts(contexts, len(images))
    checks.at_least("samples", samples, 1)
    model.eval()
    given = () if contexts is None else (contexts,)
    running, drawn = np.full(len(images), -np.inf), 0
    batches = Batches(batch, warn)

    def compute(pairs: list[tuple[int, int]]) -> np.ndarray:
        return _log_weights(model, images, pairs, seed, *given)

    bounds = {}
    for mark in milestones(samples):
        for number, pairs in enumerate(_batches(len(images), range(drawn, mark), batch)):
            if number % group.size != group.rank:
                continue
            with evaluated_in(model, precision):
                weights = batches.compute(compute, pairs)
            with np.errstate(invalid="ignore"):  # a bound of NaN is the caller's to report
                np.logaddexp.at(running, [index for index, _ in pairs], weights)
            progress(len(pairs))
        drawn = mark
        with np.errstate(invalid="ignore"):
            total = np.logaddexp.reduce(group.gather_array(running), axis=0)
        bounds[mark] = total - math.log(drawn)
    return bounds


def milestones(samples: int) -> list[int]:
    """Return 1, 4, 16, ... below `samples`, and `samples`."""
    powers = [GROWTH**i for i in range(samples.bit_length()) if GROWTH**i < samples]
    return [*powers, samples]


def batch_for(model: FlowPlusPlus, image_shape: tuple[int, int, int], megabytes: float) -> int:
    """Return the number of rows that fit into `megabytes`, at least 1.

    Without gradients, a layer's input and output are in memory together, with a few copies of them
    inside the layer. On a CPU a row is estimated as six times the largest input and output of one
    image; on a GPU the memory of a few rows is measured.

    Args:
        model: the model to measure.
        image_shape: (channels, height, width).
        megabytes: memory for activations.

    Raises:
        ValueError: `megabytes` is not positive.
    """
    if not megabytes > 0:
        raise ValueError(f"memory must be a positive number of megabytes, got {megabytes}")
    like = next(model.parameters())
    blank, context = np.zeros((1, *image_shape), np.uint8), blank_contexts(model.context_spec, 1)
    if like.device.type == "cuda":

        def run(rows: int) -> None:
            _log_weights(model, blank, [(0, draw) for draw in range(rows)], 0, *context)

        with torch.no_grad():
            return measured_rows(run, like.device, megabytes)
    largest = 0

    def measure(_module: nn.Module, inputs: object, output: object) -> None:
        nonlocal largest
        largest = max(largest, _bytes(inputs) + _bytes(output))

    handles = [module.register_forward_hook(measure) for module in model.modules()]
    try:
        with torch.no_grad():
            _log_weights(model, blank, [(0, 0)], 0, *context)
    finally:
        for handle in handles:
            handle.remove()
    return max(1, int(min(megabytes, 1e6) * 2**20 / (6 * max(largest, 1))))


def _batches(images: int, draws: range, batch: int) -> Iterator[list[tuple[int, int]]]:
    """Yield pairs (image, draw), image by image, at most `batch` at a time."""
    pairs = ((index, draw) for index in range(images) for draw in draws)
    while chunk := list(itertools.islice(pairs, batch)):
        yield chunk


def _log_weights(
    model: FlowPlusPlus,
    images: np.ndarray,
    pairs: list[tuple[int, int]],
    seed: int,
    *contexts: np.ndarray,
) -> np.ndarray:
    """Return log p(x + u) - log q(u|x) of each pair (image, draw), in float64."""
    like, indices = next(model.parameters()), [index for index, _ in pairs]
    x = image_tensor(images[indices]).to(like.device)
    noise = image_noise(model, images.shape[1:], seed, pairs).to(like.device)
    given = (context_tensor(rows[indices], like) for rows in contexts)
    return model.elbo(x, noise, *given).total.cpu().double().numpy()


def _bytes(value: object) -> int:
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, (tuple, list)):
        return sum(_bytes(item) for item in value)
    return 0
