"""Images drawn from a model, and pictures of them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from flowpp.model import FlowPlusPlus
from flowpp.runtime.files import replaced

BATCH = 64
TILE = 64
"""Pixels that a small image's side is magnified to, at least."""


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


def save_arrays(path: Path, **arrays: np.ndarray | float) -> None:
    """Write arrays as one compressed `.npz`, in one piece."""
    with replaced(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def save_grid(
    path: Path, images: np.ndarray | Tensor, levels: int, *, columns: int | None = None
) -> None:
    """Write uint8 images (N, C, H, W), C = 1 or 3, as one PNG in a grid, square if not said.

    The levels are stretched to 0..255, and small images magnified without smoothing.
    """
    picture = grid(np.asarray(images), levels, columns=columns)
    with replaced(path) as temporary:
        Image.fromarray(picture).save(temporary, format="PNG")


def grid(images: np.ndarray, levels: int, *, columns: int | None = None) -> np.ndarray:
    """The grid's pixels, uint8 (rows, columns) or (rows, columns, 3).

    Raises:
        ValueError: the images have neither one nor three channels.
    """
    count, channels, height, width = images.shape
    if channels not in (1, 3):
        raise ValueError(f"a picture needs 1 or 3 channels, got {channels}")
    scale = max(1, math.ceil(TILE / max(height, width)))
    grey = np.round(images.astype(np.float64) * (255 / (levels - 1))).astype(np.uint8)
    tiles = grey.repeat(scale, axis=2).repeat(scale, axis=3).transpose(0, 2, 3, 1)
    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    gap = 2
    step_y, step_x = height * scale + gap, width * scale + gap
    canvas = np.full((rows * step_y + gap, columns * step_x + gap, channels), 128, np.uint8)
    for index, tile in enumerate(tiles):
        top, left = gap + index // columns * step_y, gap + index % columns * step_x
        canvas[top : top + height * scale, left : left + width * scale] = tile
    return canvas[..., 0] if channels == 1 else canvas
