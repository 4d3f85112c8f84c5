"""Reduction of images to fewer grey levels and smaller sizes."""

from __future__ import annotations

import numpy as np

from flowpp.data.decoded import Allocate, in_memory
from flowpp.data.image_set import ImageSet


def reduce_bits(images: ImageSet, bits: int, allocate: Allocate = in_memory) -> ImageSet:
    """Keep the `bits` highest of 8 bits: floor(x / 2^(8 - bits)), as the 5-bit benchmarks do.

    Raises:
        ValueError: `bits` outside 1 ... 8, or images without 256 levels.
    """
    if not 1 <= bits <= 8:
        raise ValueError(f"data.bits must lie in 1 ... 8, got {bits}")
    if bits == 8:
        return images
    if images.levels != 256:
        raise ValueError(
            f"data.bits={bits} needs images of 256 levels, got {images.name} with {images.levels}"
        )
    shift = 8 - bits
    train, test = (
        np.right_shift(part, shift, out=allocate(part.shape))
        for part in (images.train, images.test)
    )
    return ImageSet(
        f"{images.name}, {bits}-bit",
        train,
        test,
        1 << bits,
        images.skipped,
    )


def reduce_size(images: ImageSet, size: int, allocate: Allocate = in_memory) -> ImageSet:
    """Average square blocks, rounding half up, as the published downsampled sets do.

    Raises:
        ValueError: Images that are not square, or a side not divisible by `size`.
    """
    _, height, width = images.shape
    if height != width or size < 1 or height % size:
        raise ValueError(
            f"data.size={size} needs square images of a side divisible by {size}, "
            f"got {images.name} with {height}x{width} pixels"
        )
    if size == height:
        return images
    return ImageSet(
        f"{images.name}, {size}x{size}",
        _average_blocks(images.train, size, allocate),
        _average_blocks(images.test, size, allocate),
        images.levels,
    )


def _average_blocks(
    images: np.ndarray, size: int, allocate: Allocate, chunk: int = 4096
) -> np.ndarray:
    count, channels, side, _ = images.shape
    block = side // size
    area = block * block
    reduced = allocate((count, channels, size, size))
    for i in range(0, count, chunk):
        part = images[i : i + chunk].reshape(-1, channels, size, block, size, block)
        sums = part.sum(axis=(3, 5), dtype=np.int64)
        reduced[i : i + chunk] = (2 * sums + area) // (2 * area)
    return reduced
