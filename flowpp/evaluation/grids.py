"""Image grids and array files written by the commands."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from flowpp.runtime.files import atomic_write, check_can_be_written

if TYPE_CHECKING:
    from torch import Tensor

TILE = 64
"""Minimum side of a magnified image, in pixels."""


def output_path(
    requested: Path | None, run: Path = Path(), folder: str = "", name: str = ""
) -> Path:
    """Return the path of a command's image: as requested, else `name` in a folder of the run.

    If `run` is a checkpoint file, the image lies beside it.

    Raises:
        ValueError: the requested path does not end in .png, is a folder, or its folder does not
            exist.
        OSError: its folder is not writable.
    """
    if requested is None:
        parent = run / folder if run.is_dir() else run.parent
        return parent / name
    if requested.suffix.lower() != ".png":
        raise ValueError(f"out must end in .png, got {requested}")
    if requested.is_dir():
        raise ValueError(f"out must be a file, got the folder {requested}")
    if not requested.parent.is_dir():
        raise ValueError(f"out must be in an existing folder, got {requested}")
    check_can_be_written(requested)
    return requested


def save_arrays(path: Path, **arrays: np.ndarray | float) -> None:
    """Write arrays to one compressed `.npz`, atomically."""
    with atomic_write(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def save_grid(
    path: Path, images: np.ndarray | Tensor, levels: int, *, columns: int | None = None
) -> None:
    """Write integer images (N, C, H, W), C = 1 or 3, to one PNG; by default a square grid.

    Levels are rescaled to 0..255, and small images are magnified without smoothing. Grey images of
    more than 256 levels make a 16-bit PNG; colour ones are reduced to 8 bits.

    Raises:
        ValueError: the images have neither one nor three channels, or a pixel is not finite.
    """
    pixels = np.asarray(images)
    save_picture(path, grid(pixels, levels, columns=columns, white=white_of(pixels, levels)))


def save_picture(path: Path, pixels: np.ndarray) -> None:
    """Write pixels (height, width) or (height, width, 3) as PNG, atomically."""
    with atomic_write(path) as temporary:
        Image.fromarray(pixels).save(temporary, format="PNG")


def white_of(images: np.ndarray, levels: int) -> int:
    """Return the value of the highest level in a PNG of images (N, C, H, W)."""
    return 0xFFFF if levels > 256 and images.shape[1] == 1 else 0xFF


def grid(
    images: np.ndarray, levels: int, *, columns: int | None = None, white: int = 0xFF
) -> np.ndarray:
    """Return the grid's pixels, (height, width) or (height, width, 3).

    They are uint8, or uint16 if `white`, the value of the highest level, is above 255.

    Raises:
        ValueError: the images have neither one nor three channels, or a pixel is not finite.
    """
    count, channels, height, width = images.shape
    if channels not in (1, 3):
        raise ValueError(f"an image grid needs images of 1 or 3 channels, got {channels}")
    if not np.isfinite(images).all():
        raise ValueError(
            "an image grid needs finite pixels, got "
            f"{int((~np.isfinite(images)).sum())} that are not, which would be black"
        )
    scale = max(1, math.ceil(TILE / max(height, width)))
    dtype = np.uint8 if white <= 0xFF else np.uint16
    grey = np.round(images.astype(np.float64) * (white / (levels - 1))).astype(dtype)
    tiles = grey.repeat(scale, axis=2).repeat(scale, axis=3).transpose(0, 2, 3, 1)
    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    gap = 2
    step_y, step_x = height * scale + gap, width * scale + gap
    canvas = np.full(
        (rows * step_y + gap, columns * step_x + gap, channels), white // 2 + 1, dtype
    )
    for index, tile in enumerate(tiles):
        top, left = gap + index // columns * step_y, gap + index % columns * step_x
        canvas[top : top + height * scale, left : left + width * scale] = tile
    return canvas[..., 0] if channels == 1 else canvas
