"""One image file to pixels, refused by name if it cannot be read."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, UnidentifiedImageError

LARGEST_SIDE = 20_000
"""Pixels; a larger picture is refused before it is decoded."""


def decode_rgb(raw: bytes, who: str, size: int | None = None) -> np.ndarray:
    """Pixels `(3, H, W)`, uint8.

    Args:
        raw: the file's bytes, in a format that Pillow knows.
        who: the file's name, for errors.
        size: the shorter side is resized to this (Lanczos), and the centre square is cut out; None
            to keep the picture as it is.

    Raises:
        ValueError: not an image, truncated, or too large; the message names it.
    """
    try:
        with Image.open(io.BytesIO(raw)) as image:
            if max(image.size) > LARGEST_SIDE:
                raise ValueError(f"{who} has {image.size} pixels, at most {LARGEST_SIDE} a side")
            rgb = image.convert("RGB")
    except UnidentifiedImageError as error:  # its text is an address in memory
        raise ValueError(f"{who} is not a readable image: no format that Pillow knows") from error
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{who} is not a readable image: {error}") from error
    if size is not None:
        rgb = _centre_square(rgb, size)
    return np.asarray(rgb).transpose(2, 0, 1).copy()


def _centre_square(image: Image.Image, size: int) -> Image.Image:
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    box = (left, top, left + side, top + side)
    return image.resize((size, size), Image.Resampling.LANCZOS, box=box)
