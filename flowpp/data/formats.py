"""Kinds of image files that are read, and those that are recognized but not read."""

from __future__ import annotations

import functools
import importlib.util
from collections import Counter

from PIL import AvifImagePlugin, Image

SUFFIXES_BY_FORMAT = {
    "PNG": (".png", ".apng"),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "WEBP": (".webp",),
    "BMP": (".bmp", ".dib"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "TIFF": (".tif", ".tiff"),
    "GIF": (".gif",),
} | ({"AVIF": (".avif",)} if AvifImagePlugin.SUPPORTED else {})
"""Formats of Pillow. Others are not read: some start programs, such as Ghostscript for
PostScript, and some, such as TGA, cannot be told from damaged files."""
HEIF_SUFFIXES = (".heic", ".heif", ".hif")
HEIF_READER = "pillow_heif"


def can_read_heif() -> bool:
    """Return whether pillow-heif is installed."""
    return _is_installed(HEIF_READER)


@functools.cache
def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def suffixes() -> frozenset[str]:
    """Return the suffixes of the files that are read, in lower case."""
    known = {suffix for group in SUFFIXES_BY_FORMAT.values() for suffix in group}
    return frozenset(known | set(HEIF_SUFFIXES if can_read_heif() else ()))


def formats() -> tuple[str, ...]:
    """Return the formats for `PIL.Image.open`, which are accepted whatever the file's name."""
    if not can_read_heif():
        return tuple(SUFFIXES_BY_FORMAT)
    if "HEIF" not in Image.OPEN:
        importlib.import_module(HEIF_READER).register_heif_opener()
    return (*SUFFIXES_BY_FORMAT, "HEIF")


def unread_note(unread: Counter[str]) -> str:
    """Return a line such as "3 files not read: 2 .heic, 1 .svg", with a hint where there is one.

    Args:
        unread: Number of files by suffix; "" for none.
    """
    kinds = ", ".join(
        f"{count} {suffix or 'without a suffix'}" for suffix, count in unread.most_common(5)
    )
    others = len(unread) - 5
    more = f" and {others} other kinds" if others > 0 else ""
    heif = any(suffix in HEIF_SUFFIXES for suffix in unread)
    hint = "; to read .heic: pip install 'flowpp[heic]'" if heif else ""
    return f"{count_of(unread.total(), 'file')} not read: {kinds}{more}{hint}"


def count_of(count: int, noun: str) -> str:
    """Return the count with its noun, in the plural unless it is 1."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
