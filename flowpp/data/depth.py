"""Bits per channel of image files, of which Pillow keeps 8 for colour without saying so."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import BITSPERSAMPLE, PHOTOMETRIC_INTERPRETATION

DEEP_MODES = frozenset({"I", "I;16", "I;16B", "I;16L", "I;16N"})
"""Pillow's modes of grey images with more than 8 bits."""
HEAD_BYTES = 1 << 16
"""Bytes at the beginning of a file that are searched for the depth of an AVIF image."""
AV1_CONFIGURATION = re.compile(rb"av1C\x81.(.)", re.DOTALL)
"""Box with the third byte of its content: flags of 10 and 12 bits (AV1-ISOBMFF 2.3.3)."""


def bits_of(image: Image.Image, source: bytes | Path | np.ndarray) -> int:
    """Return the bits per channel in the file, before its pixels are decoded: 8 ... 16.

    Args:
        image: The image as Pillow has opened it; decoding it loses the answer.
        source: Content of the file, its path, or pixels.
    """
    if image.format == "PPM":
        return max(8, _largest_ppm_value(image).bit_length())
    if image.format == "TIFF":
        return min(16, max(8, *image.tag_v2.get(BITSPERSAMPLE, (1,))))  # type: ignore[attr-defined]
    if image.format == "AVIF" and not isinstance(source, np.ndarray):
        return max(map(_av1_bits, AV1_CONFIGURATION.findall(_head(source))), default=8)
    if image.format == "HEIF":
        return max(8, image.info.get("bit_depth", 8))
    deep = any(";16" in str(tile[3]) for tile in image.tile) if hasattr(image, "tile") else False
    return 16 if deep or image.mode in DEEP_MODES else 8


def unreadable_depth(image: Image.Image, bits: int) -> str:
    """Return why Pillow would read the wrong pixels from a file of this depth, or nothing.

    Args:
        image: The image as Pillow has opened it, not decoded.
        bits: `bits_of` the image.
    """
    if image.format != "TIFF" or bits == 8:
        return ""
    if image.tag_v2.get(PHOTOMETRIC_INTERPRETATION) == 0:  # type: ignore[attr-defined]
        return f"{bits} bits with 0 for white"
    if image.mode not in DEEP_MODES and not all(";" in str(tile[3]) for tile in image.tile):  # type: ignore[attr-defined]
        return f"{bits}-bit colour in separate planes"
    return ""


def _largest_ppm_value(image: Image.Image) -> int:
    """Return the largest value that a PPM file says it has."""
    for tile in image.tile:  # type: ignore[attr-defined]
        if isinstance(tile[3], tuple):
            return int(tile[3][-1])
    return 0xFFFF if image.mode in DEEP_MODES else 0xFF


def _av1_bits(flags: bytes) -> int:
    if not flags[0] & 0x40:
        return 8
    return 12 if flags[0] & 0x20 else 10


def _head(source: bytes | Path) -> bytes:
    if isinstance(source, bytes):
        return source[:HEAD_BYTES]
    with source.open("rb") as file:
        return file.read(HEAD_BYTES)
