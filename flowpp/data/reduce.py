"""Reduction of images to fewer grey levels and smaller sizes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from flowpp.data.decoded import Allocate, in_memory
from flowpp.data.image_set import ImageSet


def reduce_bits(images: ImageSet, bits: int | None, allocate: Allocate = in_memory) -> ImageSet:
    """Keep the `bits` highest of 8 or 16 bits: floor(x / 2^(8 - bits)), as 5-bit benchmarks do.

    Raises:
        ValueError: `bits` outside 1 ... 8, or ... 16 for 16-bit images; or other levels.
    """
    if bits is None or 1 << bits == images.levels:
        return images
    depth = {1 << 8: 8, 1 << 16: 16}.get(images.levels)
    if depth is None:
        if bits == 8:
            return images  # as all bits were called before None
        raise ValueError(
            f"data.bits={bits} needs images of 256 levels, got {images.name} with {images.levels}"
        )
    if not 1 <= bits <= depth:
        raise ValueError(f"data.bits must lie in 1 ... {depth} for {images.name}, got {bits}")
    dtype = np.uint8 if bits <= 8 else np.uint16
    return _each(
        images,
        f"{images.name}, {bits}-bit",
        lambda pixels: np.right_shift(
            pixels, depth - bits, out=allocate(pixels.shape, dtype), casting="unsafe"
        ),
        levels=1 << bits,
    )


def reduce_size(
    images: ImageSet, height: int, width: int | None = None, *, allocate: Allocate = in_memory
) -> ImageSet:
    """Average square blocks, rounding half up, as the published downsampled sets do.

    Args:
        images: Data set.
        height: Requested height.
        width: Requested width; None for the height.
        allocate: Function that returns the arrays to fill.

    Raises:
        ValueError: Sides that are not the same multiple of the requested ones.
    """
    _, given_height, given_width = images.shape
    width = height if width is None else width
    block = given_height // height
    if not block or (given_height, given_width) != (block * height, block * width):
        size = f"{height}x{width} (height x width)" if height != width else f"{height}"
        raise ValueError(
            f"data.size={size} needs images of that shape with sides divisible by "
            f"{height}, got {images.name} with {given_height}x{given_width} pixels"
        )
    if (height, width) == (given_height, given_width):
        return images
    return _each(
        images,
        f"{images.name}, {height}x{width}",
        lambda pixels: average_blocks(pixels, height, width, allocate),
    )


def _each(
    images: ImageSet, name: str, change: Callable[[np.ndarray], np.ndarray], **changes: Any
) -> ImageSet:
    valid = None if images.valid is None else change(images.valid)
    train, test = change(images.train), change(images.test)
    if images.context is not None and images.context.kind == "images":
        contexts = {part: change(array) for part, array in images.contexts.items()}
        changes["contexts"] = contexts
    return replace(images, name=name, train=train, test=test, valid=valid, **changes)


def average_blocks(
    images: np.ndarray, height: int, width: int, allocate: Allocate, chunk: int = 4096
) -> np.ndarray:
    """Return the means of the blocks of images (N, C, H, W), rounded half up."""
    count, channels, given_height, given_width = images.shape
    rows, columns = given_height // height, given_width // width
    area = rows * columns
    reduced = allocate((count, channels, height, width), images.dtype)
    for i in range(0, count, chunk):
        part = images[i : i + chunk].reshape(-1, channels, height, rows, width, columns)
        sums = part.sum(axis=(3, 5), dtype=np.int64)
        reduced[i : i + chunk] = (2 * sums + area) // (2 * area)
    return reduced
