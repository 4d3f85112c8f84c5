"""Sampling from a trained model."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from flowpp.config import checks
from flowpp.config.command_line import warn
from flowpp.evaluation.batch_size import Batches, activation_megabytes, measured_rows
from flowpp.evaluation.contexts import blank_contexts, check_contexts, context_tensor
from flowpp.model import FlowPlusPlus
from flowpp.runtime.image_tensors import NonFiniteImageError, image_array

BATCH = 64
"""Images drawn at once: z is the same whatever number is decoded at once."""


NonFiniteSampleError = NonFiniteImageError
"""Name of the error in version 0.1.0."""


@torch.no_grad()
def sample(
    model: FlowPlusPlus,
    image_shape: tuple[int, ...],
    count: int,
    generator: torch.Generator,
    *,
    temperature: float = 1.0,
    batch: int | None = None,
    contexts: np.ndarray | None = None,
) -> np.ndarray:
    """Draw x = floor(f^-1(T z)), z ~ N(0, I), clipped to the levels.

    The dequantizer is not involved; the channels of an augmentation are drawn too, and dropped.

    Args:
        model: the model, which is put into evaluation mode.
        image_shape: (channels, height, width).
        count: number of images.
        generator: source of z.
        temperature: T; below 1, images are more likely and less varied.
        batch: number of images decoded at once; by default 64, or on a GPU as many of `count` as
            fit into half of its free memory.
        contexts: of a conditional model, a row for each image.

    Returns:
        uint8 `(count, C, H, W)`; uint16 for more than 256 levels.

    Raises:
        NonFiniteImageError: a pixel is NaN or infinite.
        TypeError: contexts that are not an array.
        ValueError: the temperature is negative or not finite, or the batch below 1; another number
            of contexts, or contexts that do not fit the model.
        torch.OutOfMemoryError: a GPU has no memory for one image; with too little for a batch,
            smaller ones are computed, and a line on standard error says so.
    """
    checks.at_least("batch", batch, 1)
    check_contexts(contexts, count)
    if not 0 <= temperature < math.inf:
        raise ValueError(f"temperature must be finite and at least 0, got {temperature}")
    like = next(model.parameters())
    model.eval()
    # z is drawn after one noise of an image, as in earlier versions.
    model.draw_noise((1, *image_shape), dtype=like.dtype, generator=generator)
    channels, height, width = image_shape
    latent_shape = model.latent_shape_of((channels, height, width))
    given = () if contexts is None else (contexts,)

    def decoded(z: Tensor, *rows: np.ndarray) -> np.ndarray:
        context = (context_tensor(part, like) for part in rows)
        images = model.decode_images(temperature * z.to(like.device), *context)
        return image_array(images, model.levels)

    if batch is None:
        batch = _default_batch(model, decoded, latent_shape, count, like)
    batches, images, first = Batches(batch, warn), [], 0
    for drawn in _drawn(count, latent_shape, like.dtype, generator, max(1, batch // BATCH)):
        rows = (part[first : first + len(drawn)] for part in given)
        images.append(batches.compute(decoded, drawn, *rows))
        first += len(drawn)
    return np.concatenate(images)


def _default_batch(
    model: FlowPlusPlus,
    decoded: Callable[..., np.ndarray],
    latent_shape: tuple[int, ...],
    count: int,
    like: Tensor,
) -> int:
    """Return 64, or what the memory of a GPU suffices for."""
    if like.device.type != "cuda" or count <= BATCH:
        return BATCH

    def run(rows: int) -> None:
        blank = blank_contexts(model.context_spec, rows)
        decoded(torch.zeros((rows, *latent_shape), dtype=like.dtype), *blank)

    return measured_rows(run, like.device, activation_megabytes(like.device))


def _drawn(
    count: int,
    latent_shape: tuple[int, ...],
    dtype: torch.dtype,
    generator: torch.Generator,
    joined: int,
) -> Iterator[Tensor]:
    """Draw z ~ N(0, I) for `count` images, 64 at a time; yield `joined` draws together."""
    sizes = [min(BATCH, count - begin) for begin in range(0, count, BATCH)]
    for first in range(0, len(sizes), joined):
        yield torch.cat(
            [
                torch.randn((size, *latent_shape), dtype=dtype, generator=generator)
                for size in sizes[first : first + joined]
            ]
        )
