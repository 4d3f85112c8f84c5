"""Sampling from a trained model."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from flowpp.model import FlowPlusPlus

BATCH = 64


class NonFiniteSampleError(RuntimeError):
    """Raised if a drawn image has NaN or infinite pixels, which uint8 would show as black."""


@torch.no_grad()
def sample(
    model: FlowPlusPlus,
    image_shape: tuple[int, ...],
    count: int,
    generator: torch.Generator,
    *,
    temperature: float = 1.0,
) -> np.ndarray:
    """Draw x = floor(f^-1(T z)), z ~ N(0, I), clipped to the levels.

    The dequantizer is not involved.

    Args:
        model: the model, which is put into evaluation mode.
        image_shape: (channels, height, width).
        count: number of images.
        generator: source of z.
        temperature: T; below 1, images are more likely and less varied.

    Returns:
        uint8 `(count, C, H, W)`.

    Raises:
        NonFiniteSampleError: a pixel is NaN or infinite.
        ValueError: the temperature is negative or not finite.
    """
    if not 0 <= temperature < math.inf:
        raise ValueError(f"temperature must be finite and at least 0, got {temperature}")
    like = next(model.parameters())
    model.eval()
    # The latent shape may differ from the image's.
    blank = torch.zeros((1, *image_shape), device=like.device)
    noise = model.dequantizer.draw_noise(blank.shape, dtype=like.dtype, generator=generator)
    latent_shape = model.encode(blank, noise.to(like.device)).shape[1:]
    batches = []
    for begin in range(0, count, BATCH):
        shape = (min(BATCH, count - begin), *latent_shape)
        z = torch.randn(shape, dtype=like.dtype, generator=generator).to(like.device)
        batches.append(_as_uint8(model.decode_images(temperature * z)))
    return torch.cat(batches).numpy()


def _as_uint8(images: Tensor) -> Tensor:
    non_finite = ~torch.isfinite(images)
    if non_finite.any():
        raise NonFiniteSampleError(
            f"samples must have finite pixels, got {int(non_finite.sum())} that are not, in "
            f"{int(non_finite.flatten(1).any(1).sum())} of {len(images)} images"
        )
    return images.to(torch.uint8).cpu()
