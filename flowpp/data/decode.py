"""One image file to pixels, refused by name if it cannot be read."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import numpy as np
from PIL import Image, UnidentifiedImageError

LARGEST_SIDE = 20_000
"""Pixels; a larger picture is refused before it is decoded."""
Kind = Literal[1, 3]
GREY: Kind = 1
COLOUR: Kind = 3
KINDS: dict[int, str] = {GREY: "grey", COLOUR: "colour"}
GREY_MODES = frozenset({"1", "L", "LA"})
COLOUR_MODES = frozenset({"P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"})


def decode_rgb(raw: bytes, who: str) -> np.ndarray:
    """Pixels `(3, H, W)`, uint8, whatever the file's own kind.

    Args:
        raw: the file's bytes, in a format that Pillow knows.
        who: the file's name, for errors.

    Raises:
        ValueError: not an image, truncated, or too large; the message names it.
    """
    with _opened(raw, who) as image:
        return _pixels(image.convert("RGB"))


def decode(raw: bytes, who: str, size: int, channels: int) -> np.ndarray:
    """Pixels `(channels, size, size)`, uint8, of an image that loses nothing but its margins.

    Args:
        raw: the file's bytes, in a format that Pillow knows.
        who: the file's name, for errors.
        size: the shorter side is resized to this (Lanczos), and the centre square is cut out.
        channels: 1 for grey images, 3 for colour.

    Raises:
        ValueError: not an image, truncated, or too large; grey where colour was needed or the
            other way round; transparent, or of more than 8 bits. The message names it.
    """
    with _opened(raw, who) as image:
        kind = kind_of(image, who)
        if kind != channels:
            raise ValueError(
                f"{who} is a {KINDS[kind]} image, needed {KINDS[channels]} (data.channels "
                f"{channels})"
            )
        return _pixels(_centre_square(image.convert("L" if channels == GREY else "RGB"), size))


def kind_of(image: Image.Image, who: str) -> Kind:
    """1 for a grey image, 3 for a colour one.

    Raises:
        ValueError: it has more than 8 bits, or is transparent anywhere.
    """
    if image.mode not in GREY_MODES | COLOUR_MODES:
        raise ValueError(f"{who} has pixels of mode {image.mode}, needed 8 bits for each number")
    if image.has_transparency_data:
        if np.asarray(image.convert("RGBA").getchannel("A")).min() < 255:
            raise ValueError(f"{who} is transparent in places, needed an opaque image")
    return GREY if image.mode in GREY_MODES else COLOUR


@contextmanager
def _opened(raw: bytes, who: str) -> Iterator[Image.Image]:
    try:
        with Image.open(io.BytesIO(raw)) as image:
            if max(image.size) > LARGEST_SIDE:
                raise ValueError(f"{who} has {image.size} pixels, at most {LARGEST_SIDE} a side")
            yield image
    except UnidentifiedImageError as error:  # its own message names a buffer in memory
        raise ValueError(f"{who} is not a readable image: of no known format") from error
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{who} is not a readable image: {error}") from error


def _pixels(image: Image.Image) -> np.ndarray:
    pixels = np.asarray(image)
    return np.atleast_3d(pixels).transpose(2, 0, 1).copy()


def _centre_square(image: Image.Image, size: int) -> Image.Image:
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    box = (left, top, left + side, top + side)
    return image.resize((size, size), Image.Resampling.LANCZOS, box=box)
