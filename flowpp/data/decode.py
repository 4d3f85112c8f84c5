"""One image file to pixels, refused by name if it cannot be read."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, UnidentifiedImageError

LARGEST_SIDE = 20_000
"""Pixels; a larger picture is refused before it is decoded, and so is one of more than Pillow's
limit in all."""
LARGEST_FILE = 512 << 20
"""Bytes."""
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "PPM", "TIFF")
"""Whatever a file's name is. Pillow knows others that start programs: PostScript's interpreter."""
Kind = Literal[1, 3]
GREY: Kind = 1
COLOUR: Kind = 3
KINDS: dict[int, str] = {GREY: "grey", COLOUR: "colour"}
GREY_MODES = frozenset({"1", "L", "LA"})
COLOUR_MODES = frozenset({"P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"})


class ImageError(ValueError):
    """A file that is no image, or not one of the kind that is needed."""


def decode_rgb(raw: bytes, who: str, side: int) -> np.ndarray:
    """Pixels `(3, side, side)`, uint8, whatever the file's own kind.

    Args:
        raw: the file's bytes, in a format that Pillow knows.
        who: the file's name, for errors.
        side: height and width that it must have.

    Raises:
        ImageError: not an image, truncated, or of another size; the message names it.
    """
    with opened(raw, who) as image:
        if image.size != (side, side):
            width, height = image.size
            raise ImageError(f"{who} has {width}x{height} pixels, needed {side}x{side}")
        return _pixels(image.convert("RGB"))


def decode(raw: bytes, who: str, size: int, channels: int) -> np.ndarray:
    """Pixels `(channels, size, size)`, uint8, of an image that loses nothing but its margins.

    Args:
        raw: the file's bytes, in a format that Pillow knows.
        who: the file's name, for errors.
        size: the shorter side is resized to this (Lanczos), and the centre square is cut out.
        channels: 1 for grey images, 3 for colour.

    Raises:
        ImageError: not an image, truncated, or too large; grey where colour was needed or the
            other way round; transparent, or of more than 8 bits. The message names it.
    """
    with opened(raw, who) as image:
        kind = kind_of(image, who)
        if kind != channels:
            raise ImageError(
                f"{who} is a {KINDS[kind]} image, needed {KINDS[channels]} (data.channels "
                f"{channels})"
            )
        return _pixels(_centre_square(image.convert("L" if channels == GREY else "RGB"), size))


def kind_of(image: Image.Image, who: str) -> Kind:
    """1 for a grey image, 3 for a colour one.

    Raises:
        ImageError: it has more than 8 bits, or is transparent anywhere.
    """
    if image.mode not in GREY_MODES | COLOUR_MODES:
        raise ImageError(f"{who} has pixels of mode {image.mode}, needed 8 bits for each number")
    if image.has_transparency_data:
        if np.asarray(image.convert("RGBA").getchannel("A")).min() < 255:
            raise ImageError(f"{who} is transparent in places, needed an opaque image")
    return GREY if image.mode in GREY_MODES else COLOUR


@contextmanager
def opened(source: bytes | Path, who: str) -> Iterator[Image.Image]:
    """An image whose pixels are not decoded yet; they are when something asks for them.

    Raises:
        ImageError: not an image of a known format, damaged (inside the block, too), or too large;
            the message names it.
    """
    try:
        file = io.BytesIO(source) if isinstance(source, bytes) else source
        with Image.open(file, formats=FORMATS) as image:
            if max(image.size) > LARGEST_SIDE:
                raise ImageError(f"{who} has {image.size} pixels, at most {LARGEST_SIDE} a side")
            yield image
    except ImageError:
        raise
    except UnidentifiedImageError as error:  # its own message names a buffer in memory
        raise ImageError(f"{who} is not a readable image: of no known format") from error
    except Exception as error:  # a damaged image may raise nearly anything
        raise ImageError(f"{who} is not a readable image: {error}") from error


def content(path: Path) -> bytes:
    """The bytes of an image file.

    Raises:
        ImageError: there are too many of them.
        OSError: it cannot be read.
    """
    size = path.stat().st_size
    if size > LARGEST_FILE:
        raise ImageError(f"{path} has {size:,} bytes, at most {LARGEST_FILE:,} are read")
    return path.read_bytes()


def _pixels(image: Image.Image) -> np.ndarray:
    pixels = np.asarray(image)
    return np.atleast_3d(pixels).transpose(2, 0, 1).copy()


def _centre_square(image: Image.Image, size: int) -> Image.Image:
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    box = (left, top, left + side, top + side)
    return image.resize((size, size), Image.Resampling.LANCZOS, box=box)
