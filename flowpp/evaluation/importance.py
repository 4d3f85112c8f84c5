"""The importance-weighted bound, streamed: any number of samples in a set amount of memory."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from flowpp.evaluation.bound import Estimate
from flowpp.model import FlowPlusPlus
from flowpp.objective import bits_per_dim
from flowpp.runtime.distributed import SINGLE_PROCESS, ProcessGroup

GROWTH = 4
"""The bound is reported at 1, 4, 16, ... samples on the way."""


@torch.no_grad()
def importance_bounds(
    model: FlowPlusPlus,
    images: np.ndarray,
    samples: int,
    *,
    seed: int = 0,
    batch: int = 128,
    progress: Callable[[int], None] = lambda count: None,
    group: ProcessGroup = SINGLE_PROCESS,
) -> dict[int, Estimate]:
    """Bits per dimension by log-mean-exp over samples, at 1, 4, 16, ... and `samples` samples.

    -log2( mean_s p(x + u_s) / q(u_s|x) ) / D falls towards -log2 P(x) / D as samples are added;
    the smaller numbers of samples are the first draws of the larger ones.

    Args:
        model: in evaluation mode or not; it is put there.
        images: integer images `(N, C, H, W)`, uint8.
        samples: number of draws for each image, at least 1.
        seed: each draw of each image has a random stream of its own, made of this and their
            numbers, so that neither `batch` nor the other images change it.
        batch: rows evaluated at once; what memory allows.
        progress: told after each batch how many rows it had.
        group: processes among which the batches are dealt out; each returns the whole.

    Returns:
        Number of samples to the mean over images with its standard error. One running sum an image
        is kept, in float64: the memory does not depend on `samples`.

    Raises:
        ValueError: no sample, or no image.

    Source: Burda, Grosse and Salakhutdinov 2016, eq. 8; Flow++ section 4.
    """
    if samples < 1 or not len(images):
        raise ValueError(
            "importance_bounds needs at least 1 sample and 1 image, "
            f"got {samples} and {len(images)}"
        )
    model.eval()
    running, drawn = np.full(len(images), -np.inf), 0
    bounds = {}
    for mark in milestones(samples):
        for number, pairs in enumerate(_batches(len(images), range(drawn, mark), batch)):
            if number % group.size != group.rank:
                continue
            weights = _log_weights(model, images, pairs, seed)
            np.logaddexp.at(running, [index for index, _ in pairs], weights)
            progress(len(pairs))
        drawn = mark
        total = np.logaddexp.reduce(group.gather_array(running), axis=0)
        log_mean = torch.from_numpy(total - math.log(drawn))
        bounds[mark] = Estimate.of(bits_per_dim(log_mean, images[0].size))
    return bounds


def milestones(samples: int) -> list[int]:
    """1, 4, 16, ... below `samples`, and `samples`."""
    below = [GROWTH**i for i in range(samples.bit_length()) if GROWTH**i < samples]
    return [*below, samples]


def batch_for(model: FlowPlusPlus, image_shape: tuple[int, int, int], megabytes: float) -> int:
    """How many rows fit into so much memory, at least 1.

    One image is sent through; without gradients a layer's input and output are alive at the same
    time, with a few copies of them inside the layer. Six times the largest such pair is a row.

    Args:
        model: the model.
        image_shape: (channels, height, width).
        megabytes: memory for activations.

    Raises:
        ValueError: not a positive amount.
    """
    if not megabytes > 0:
        raise ValueError(f"memory needs a positive number of megabytes, got {megabytes}")
    largest = 0

    def measure(_module: nn.Module, inputs: object, output: object) -> None:
        nonlocal largest
        largest = max(largest, _bytes(inputs) + _bytes(output))

    handles = [module.register_forward_hook(measure) for module in model.modules()]
    try:
        with torch.no_grad():
            _log_weights(model, np.zeros((1, *image_shape), np.uint8), [(0, 0)], 0)
    finally:
        for handle in handles:
            handle.remove()
    return max(1, int(min(megabytes, 1e6) * 2**20 / (6 * max(largest, 1))))


def _batches(images: int, draws: range, batch: int) -> Iterator[list[tuple[int, int]]]:
    """Pairs (image, draw), image by image, at most `batch` at a time."""
    pairs = ((index, draw) for index in range(images) for draw in draws)
    while chunk := list(itertools.islice(pairs, batch)):
        yield chunk


def _log_weights(
    model: FlowPlusPlus, images: np.ndarray, pairs: list[tuple[int, int]], seed: int
) -> np.ndarray:
    """log p(x + u) - log q(u|x) for each pair (image, draw), in float64."""
    like = next(model.parameters())
    x = torch.from_numpy(images[[index for index, _ in pairs]]).to(like.device)
    draws = [_noise(model, images.shape[1:], seed, *pair) for pair in pairs]
    noise = model.dequantizer.round_noise(torch.stack(draws), like.dtype).to(like.device)
    return model.elbo(x, noise).total.double().cpu().numpy()


def _noise(
    model: FlowPlusPlus, shape: tuple[int, ...], seed: int, index: int, draw: int
) -> Tensor:
    """Noise of one draw, from a stream of its own: the same in whatever batch it is evaluated."""
    mixed = np.random.SeedSequence((seed, index, draw)).generate_state(1, np.uint64)[0]
    generator = torch.Generator().manual_seed(int(mixed >> np.uint64(1)))
    return model.dequantizer.draw_noise(shape, dtype=torch.float64, generator=generator)


def _bytes(value: object) -> int:
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, (tuple, list)):
        return sum(_bytes(item) for item in value)
    return 0
