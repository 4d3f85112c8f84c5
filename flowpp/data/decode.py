"""Decoding of image files to pixels."""

from __future__ import annotations

import io
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from flowpp.data.depth import DEEP_MODES, bits_of, unreadable_depth
from flowpp.data.fit import Target, fit_deep, fit_image, grey_of_deep
from flowpp.data.formats import formats
from flowpp.runtime.bounded import FileError, open_regular, read_bounded

MAX_SIDE = 20_000
"""Pixels; larger images are refused before decoding. Pillow limits the total number as well."""
MAX_FILE_BYTES = 512 << 20
Kind = Literal[1, 3]
GREY: Kind = 1
COLOUR: Kind = 3
KINDS: dict[int, str] = {GREY: "grey", COLOUR: "colour"}
GREY_MODES = frozenset({"1", "L", "LA"}) | DEEP_MODES
COLOUR_MODES = frozenset({"P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"})
TASK = 32
"""Images that a thread decodes at a time."""
T = TypeVar("T")
R = TypeVar("R")


class ImageError(ValueError):
    """The file is not an image, or not of the expected kind."""


Source = bytes | Path | np.ndarray | ImageError
"""Content of a file, its path, pixels of shape (H, W) or (H, W, C), or why there are none."""


class Header(NamedTuple):
    """Properties of an image known before it is decoded; height and width once upright."""

    kind: Kind
    bits: int
    height: int
    width: int


class Decoded(NamedTuple):
    """Pixels of shape (C, H, W), and what had to be done for them."""

    pixels: np.ndarray
    facts: tuple[str, ...]
    """Some of `FACTS`."""


FACTS = {
    "frames": "frames or pages after the first are not used: {}",
    "turned": "turned upright by their EXIF orientation: {}",
    "converted": "converted to the other kind, grey or colour: {}",
    "enlarged": "enlarged to the required size: {}",
    "reduced": "reduced from more than 8 bits per channel: {}",
}
"""Notes on how a data set was decoded, by fact; each takes a number of files."""


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
        return np.asarray(image.convert("RGB")).transpose(2, 0, 1).copy()


def read_header(source: Source, who: str) -> Header:
    """Read the properties of an image.

    Args:
        source: Content of the file, its path, or pixels.
        who: Name of the file, for errors.

    Raises:
        ImageError: A file that is not an image, is too large or transparent.
    """
    if _is_deep_colour(source):
        assert isinstance(source, np.ndarray)
        return Header(COLOUR, 16, *source.shape[:2])
    with opened(source, who) as image:
        width, height = image.size
        if is_turned_sideways(image):
            width, height = height, width
        bits = _checked_bits(image, source, who)
        return Header(kind_of(image, who), bits, height, width)


def decode(source: Source, who: str, target: Target) -> Decoded:
    """Decode an image, turn it upright, and fit it to size, channels and bits.

    Args:
        source: Content of the file, its path, or pixels.
        who: Name of the file, for errors.
        target: Required height, width, channels and bits.

    Returns:
        Pixels of shape (channels, height, width), uint8, or uint16 for more than 8 bits.

    Raises:
        ImageError: A file that is not an image, is truncated or too large; grey where colour was
            expected or the reverse; transparent; or more than 8 bits without a choice of bits.
    """
    if isinstance(source, Path):
        source = read_file(source)
    if _is_deep_colour(source):
        assert isinstance(source, np.ndarray)
        return _decode_deep_colour(source, who, target)
    with opened(source, who) as image:
        bits = _checked_bits(image, source, who)
        kind = kind_of(image, who)
        _check_kind(kind, who, target)
        facts = ["frames"] if getattr(image, "is_animated", False) else []
        if kind != target.channels:
            facts.append("converted")
        check_bits(bits, target.bits, kind, who)
        upright = turned_upright(image)
        if upright is not image:
            facts.append("turned")
        if upright.width < target.width or upright.height < target.height:
            facts.append("enlarged")
        if bits > 8 and not target.is_deep:
            facts.append("reduced")
        return Decoded(_fitted(upright, who, target, bits), tuple(facts))


def _is_deep_colour(source: Source) -> bool:
    """Return whether the source is 16-bit colour in an array, which Pillow has no mode for."""
    return isinstance(source, np.ndarray) and source.dtype == np.uint16 and source.ndim == 3


def _decode_deep_colour(values: np.ndarray, who: str, target: Target) -> Decoded:
    """Fit 16-bit colour from an array, (H, W, 3)."""
    _check_kind(COLOUR, who, target)
    check_bits(16, target.bits, COLOUR, who, pillow=False)
    facts = ["converted"] * (target.channels == GREY) + ["reduced"] * (not target.is_deep)
    return Decoded(deep_pixels(values.astype(np.int64), who, target), tuple(facts))


def _check_kind(kind: Kind, who: str, target: Target) -> None:
    if kind != target.channels and not target.convert:
        wanted = KINDS[target.channels]
        hint = (
            f"data.channels {target.channels} converts all to {wanted}"
            if target.of_model
            else "data.channels 1 or 3 converts all to grey or colour"
        )
        raise ImageError(
            f"{who} must be a {wanted} image (data.channels {target.channels}), "
            f"got a {KINDS[kind]} one; {hint}"
        )


def _fitted(image: Image.Image, who: str, target: Target, bits: int) -> np.ndarray:
    if image.mode not in DEEP_MODES:
        eight = fit_image(image.convert("L" if target.channels == GREY else "RGB"), target, who)
        return np.atleast_3d(np.asarray(eight)).transpose(2, 0, 1).copy()
    values = np.asarray(image, np.int64)[..., None]
    if image.format == "TIFF" and bits < 16:  # Pillow scales others to 16 bits, as PGM
        values = values * 0xFFFF // ((1 << bits) - 1)
    if values.min(initial=0) < 0 or values.max(initial=0) > 0xFFFF:
        raise ImageError(f"{who} must have values in 0 ... 65535, got others")
    return deep_pixels(values, who, target)


def deep_pixels(values: np.ndarray, who: str, target: Target) -> np.ndarray:
    """Return 16-bit values (H, W, C) fitted to the target: uint16, or the high bytes as uint8."""
    if target.channels == GREY and values.shape[2] == COLOUR:
        values = grey_of_deep(values)
    pixels = fit_deep(values, target, who)
    if pixels.shape[0] < target.channels:
        pixels = pixels.repeat(target.channels, axis=0)
    return pixels if target.is_deep else (pixels >> 8).astype(np.uint8)


def check_bits(bits: int, wanted: int | None, kind: int, who: str, *, pillow: bool = True) -> None:
    """Refuse more than 8 bits unless asked for, and 8 bits where more are.

    Raises:
        ImageError: See above; also colour of more than 8 bits, of which Pillow reads 8, where
            more are asked for.
    """
    lost = pillow and kind == COLOUR
    if bits > 8 and wanted is None:
        keep = "" if lost else "data.bits 16 keeps them, "
        raise ImageError(
            f"{who} must have 8 bits per channel, got {bits}; {keep}data.bits 8 keeps the "
            "highest 8"
        )
    if bits > 8 and (wanted or 8) > 8 and lost:
        raise ImageError(
            f"{who} must be grey for data.bits {wanted}, got {bits}-bit colour, which Pillow "
            "reads as 8 bits; use an .npy array of uint16, or data.bits 8"
        )
    if bits == 8 and (wanted or 8) > 8:
        raise ImageError(f"{who} must have 16 bits for data.bits {wanted}, got 8")


def _checked_bits(image: Image.Image, source: Source, who: str) -> int:
    """Return the bits per channel of an image that is not decoded yet.

    Raises:
        ImageError: Pillow would read wrong pixels.
    """
    assert not isinstance(source, ImageError)  # `opened` has raised it
    bits = bits_of(image, source)
    if problem := unreadable_depth(image, bits):
        raise ImageError(f"{who} must be saved in another way, such as PNG: {problem} is not read")
    return bits


def kind_of(image: Image.Image, who: str) -> Kind:
    """Return 1 for a grey image, 3 for a colour one.

    Raises:
        ImageError: An image of more than 16 bits, or with transparent pixels.
    """
    if image.mode not in GREY_MODES | COLOUR_MODES:
        raise ImageError(
            f"{who} must have 8 or 16 bits per channel, got pixels of mode {image.mode}"
        )
    if image.has_transparency_data:
        alpha = np.asarray(image.convert("RGBA").getchannel("A")).min()
        if alpha < 255:
            raise ImageError(f"{who} must be opaque, got an alpha value of {alpha}")
    return GREY if image.mode in GREY_MODES else COLOUR


def turned_upright(image: Image.Image) -> Image.Image:
    """Return the image as its EXIF orientation says; the same object if there is none."""
    image.load()
    try:
        if image.getexif().get(ExifTags.Base.Orientation, 1) in range(2, 9):
            return ImageOps.exif_transpose(image)
    except Exception:  # damaged EXIF may raise nearly anything, and says nothing about pixels
        return image
    return image


def is_turned_sideways(image: Image.Image) -> bool:
    """Return whether height and width are exchanged once upright, as far as the header tells."""
    if image.format == "PNG" and "exif" not in image.info:
        return False  # EXIF after the pixels: not worth decoding them
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1) in range(5, 9)
    except Exception:  # as in `turned_upright`
        return False


@contextmanager
def opened(source: Source, who: str) -> Iterator[Image.Image]:
    """Open an image; its pixels are decoded on first use, inside the block.

    Args:
        source: Content of the file, its path, or pixels.
        who: Name of the file, for errors.

    Raises:
        ImageError: A file of unknown format, a damaged or too large image; also for errors of
            Pillow inside the block.
    """
    try:
        if isinstance(source, ImageError):
            raise source
        if isinstance(source, np.ndarray):
            yield Image.fromarray(source)
            return
        with (
            io.BytesIO(source)
            if isinstance(source, bytes)
            else open_regular(source, MAX_FILE_BYTES) as file,
            Image.open(file, formats=formats()) as image,
        ):
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
        ImageError: A file above the size limit, or one that cannot be read, such as a file that
            has been removed since it was listed.
    """
    try:
        return read_bounded(path, MAX_FILE_BYTES)
    except FileError as error:
        raise ImageError(str(error)) from error
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror or error}") from error


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
