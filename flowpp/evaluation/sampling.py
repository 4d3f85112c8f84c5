"""Sampling from a trained model."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from flowpp.model import FlowPlusPlus

BATCH = 64


class NonFiniteSampleError(RuntimeError):
    """A drawn image has pixels that are no numbers: the model, not the picture, is at fault."""


@torch.no_grad()
def sample(
    model: FlowPlusPlus,
    image_shape: tuple[int, ...],
    count: int,
    generator: torch.Generator,
    *,
    temperature: float = 1.0,
) -> np.ndarray:
    """x = floor(f^-1(T z)), z ~ N(0, I): uint8 images (count, C, H, W), clipped to the levels.

    The dequantizer plays no part in it. A temperature T below 1 keeps to likelier images.

    Raises:
        NonFiniteSampleError: pixels came out NaN; as uint8 they would look like black ones.
        ValueError: the temperature is negative or not finite.
    """
    if not 0 <= temperature < math.inf:
        raise ValueError(f"temperature must be finite and at least 0, got {temperature}")
    like = next(model.parameters())
    model.eval()
    # The flow may end in another shape than the image's: ask it for the latent's.
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
    spoiled = ~torch.isfinite(images)
    if spoiled.any():
        raise NonFiniteSampleError(
            f"samples need finite pixels, got {int(spoiled.sum())} that are not, in "
            f"{int(spoiled.flatten(1).any(1).sum())} of {len(images)} images"
        )
    return images.to(torch.uint8).cpu()
