"""Decoding of image files to pixels."""

from __future__ import annotations

import io
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

MAX_SIDE = 20_000
"""Pixels; larger images are refused before decoding. Pillow limits the total number as well."""
MAX_FILE_BYTES = 512 << 20
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "PPM", "TIFF")
"""Accepted whatever the file's name. Pillow has others that start programs, such as Ghostscript
for PostScript."""
Kind = Literal[1, 3]
GREY: Kind = 1
COLOUR: Kind = 3
KINDS: dict[int, str] = {GREY: "grey", COLOUR: "colour"}
GREY_MODES = frozenset({"1", "L", "LA"})
COLOUR_MODES = frozenset({"P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"})
TASK = 32
"""Images that a thread decodes at a time."""
T = TypeVar("T")
R = TypeVar("R")


class ImageError(ValueError):
    """The file is not an image, or not of the expected kind."""


def decode_rgb(raw: bytes, who: str, side: int) -> np.ndarray:
    """Decode an image to RGB pixels, uint8 of shape (3, side, side).

    Args:
        raw: Content of the file.
        who: Name of the file, for errors.
        side: Required height and width.

    Raises:
        ImageError: A file that is not an image, is truncated, or has another size.
    """
    with opened(raw, who) as image:
        if image.size != (side, side):
            width, height = image.size
            raise ImageError(f"{who} must have {side}x{side} pixels, got {width}x{height}")
        return _pixels(image.convert("RGB"))


def decode(raw: bytes, who: str, size: int, channels: int) -> np.ndarray:
    """Decode an image, resize its shorter side to `size` (Lanczos) and crop the centre square.

    Args:
        raw: Content of the file.
        who: Name of the file, for errors.
        size: Height and width of the result.
        channels: 1 for grey images, 3 for colour.

    Returns:
        Pixels, uint8 of shape (channels, size, size).

    Raises:
        ImageError: A file that is not an image, is truncated or too large; grey where colour was
            expected or the reverse; transparent, or of more than 8 bits.
    """
    with opened(raw, who) as image:
        kind = kind_of(image, who)
        if kind != channels:
            raise ImageError(
                f"{who} must be a {KINDS[channels]} image (data.channels {channels}), "
                f"got a {KINDS[kind]} one"
            )
        return _pixels(_centre_square(image.convert("L" if channels == GREY else "RGB"), size))


def kind_of(image: Image.Image, who: str) -> Kind:
    """Return 1 for a grey image, 3 for a colour one.

    Raises:
        ImageError: An image of more than 8 bits, or with transparent pixels.
    """
    if image.mode not in GREY_MODES | COLOUR_MODES:
        raise ImageError(f"{who} must have 8 bits per channel, got pixels of mode {image.mode}")
    if image.has_transparency_data:
        alpha = np.asarray(image.convert("RGBA").getchannel("A")).min()
        if alpha < 255:
            raise ImageError(f"{who} must be opaque, got an alpha value of {alpha}")
    return GREY if image.mode in GREY_MODES else COLOUR


@contextmanager
def opened(source: bytes | Path, who: str) -> Iterator[Image.Image]:
    """Open an image; its pixels are decoded on first use, inside the block.

    Args:
        source: Content of the file, or its path.
        who: Name of the file, for errors.

    Raises:
        ImageError: A file of unknown format, a damaged or too large image; also for errors of
            Pillow inside the block.
    """
    try:
        file = io.BytesIO(source) if isinstance(source, bytes) else source
        with Image.open(file, formats=FORMATS) as image:
            if max(image.size) > MAX_SIDE:
                raise ImageError(
                    f"{who} must have at most {MAX_SIDE} pixels a side, got {image.size}"
                )
            yield image
    except ImageError:
        raise
    except UnidentifiedImageError as error:  # its message names a buffer in memory
        raise ImageError(f"{who} is not a readable image: unknown format") from error
    except Exception as error:  # a damaged image may raise nearly anything
        raise ImageError(f"{who} is not a readable image: {error}") from error


def read_file(path: Path) -> bytes:
    """Read an image file.

    Raises:
        ImageError: A file above the size limit.
        OSError: A file that cannot be read.
    """
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise ImageError(f"{path} must have at most {MAX_FILE_BYTES:,} bytes, got {size:,}")
    return path.read_bytes()


def in_parallel(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Yield `function` of each item, in order, computed by a thread for each processor.

    Pillow decodes without holding the interpreter's lock. A bounded number of items and results
    is in memory.
    """

    def compute(task: list[T]) -> list[R]:
        return [function(item) for item in task]

    threads, remaining = os.cpu_count() or 1, iter(items)
    with ThreadPoolExecutor(threads) as pool:
        while tasks := [
            t for _ in range(threads) if (t := list(itertools.islice(remaining, TASK)))
        ]:
            for results in pool.map(compute, tasks):
                yield from results


def _pixels(image: Image.Image) -> np.ndarray:
    pixels = np.asarray(image)
    return np.atleast_3d(pixels).transpose(2, 0, 1).copy()


def _centre_square(image: Image.Image, size: int) -> Image.Image:
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    box = (left, top, left + side, top + side)
    return image.resize((size, size), Image.Resampling.LANCZOS, box=box)
