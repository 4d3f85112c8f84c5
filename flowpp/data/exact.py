"""Images as they are: of one size, kind and depth, others being refused instead of converted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from flowpp.data.decode import (
    KINDS,
    Source,
    decode,
    in_parallel,
    read_header,
    turned_upright,
)
from flowpp.data.decode import (
    opened as opened_image,
)
from flowpp.data.fit import Target
from flowpp.data.image_files import ImageFiles
from flowpp.data.unsplit import opened

DEEP = 16
INEXACT_MODES = frozenset({"CMYK", "YCbCr", "LAB", "HSV"})
"""Pillow's modes of colour images whose conversion to RGB rounds."""


def load_exact(
    paths: Sequence[Path], shape: tuple[int, int, int], levels: int, *, any_size: bool = False
) -> tuple[tuple[str, ...], list[np.ndarray]]:
    """Load all images of folders, archives or files.

    Args:
        paths: folders, files of images, or single images.
        shape: (channels, height, width) that all images must have.
        levels: number of values of a channel; values must be below it.
        any_size: whether height and width may be others.

    Returns:
        Names, which differ, and pixels (C, H, W) of each image.

    Raises:
        FileNotFoundError: nothing at a path.
        ValueError: no images, or one that does not fit; the message names it.
    """
    names: list[str] = []
    pixels: list[np.ndarray] = []
    for path in paths:
        files = opened(path.expanduser())
        found = _read(files, shape, levels, any_size=any_size)
        if not found:
            reasons = "; ".join(["got none", *files.listing.notes()])
            raise ValueError(f"{files.where} must have images, {reasons}")
        folder = "" if len(paths) == 1 or path.is_file() else f"{path.resolve().name}/"
        names += [f"{folder}{image}" for image in found]
        pixels += found.values()
    return tuple(names), pixels


def _read(
    files: ImageFiles, shape: tuple[int, int, int], levels: int, *, any_size: bool
) -> dict[PurePosixPath, np.ndarray]:
    channels = shape[0]
    bits = DEEP if levels > 256 else 8

    def read(item: tuple[PurePosixPath, Source]) -> tuple[PurePosixPath, np.ndarray]:
        image, source = item
        who = files.who(image)
        header = read_header(source, who)
        got = (header.kind, header.height, header.width)
        wanted = (channels, *got[1:]) if any_size else shape
        if got != wanted or header.bits != bits:
            hint = "; --tiles takes images of any size" if got[0] == channels else ""
            raise ValueError(
                f"{who} must be {_described(wanted, bits)}, as the model's images, "
                f"got {_described(got, header.bits)}{hint}"
            )
        target = Target(*wanted[1:], channels, bits=bits, of_model=True)
        decoded = decode(source, who, target)
        if "frames" in decoded.facts:
            raise ValueError(f"{who} must be one image, got an animation")
        _check_unchanged(source, who, target)
        if decoded.pixels.max() >= levels:
            raise ValueError(
                f"{who} must have values 0 ... {levels - 1} for this model, "
                f"got {decoded.pixels.max()}"
            )
        return image, decoded.pixels

    images = files.listing.images
    found = dict(in_parallel(read, files.read(images)))
    return {image: found[image] for image in images}


def _check_unchanged(source: Source, who: str, target: Target) -> None:
    """Refuse an image that was converted or resized to fit.

    A PNG file may have its EXIF orientation after the pixels, where its header does not show it.
    """
    if isinstance(source, np.ndarray):
        return
    with opened_image(source, who) as image:
        mode, upright = image.mode, turned_upright(image).size
    if mode in INEXACT_MODES:
        raise ValueError(f"{who} must be of RGB or grey pixels, got {mode}, which is converted")
    if upright != (target.width, target.height):
        raise ValueError(
            f"{who} must be {target.height}x{target.width} upright, got {upright[1]}x{upright[0]}"
        )


def _described(shape: tuple[int, int, int], bits: int) -> str:
    channels, height, width = shape
    kind = KINDS.get(channels, f"{channels} channels")
    return f"{height}x{width}, {kind}, {bits} bits"
