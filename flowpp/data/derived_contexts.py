"""Image contexts that are computed from the images: grey, low resolution, masked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flowpp.config.context_spec import ContextSpec
from flowpp.config.data_sets import Shape
from flowpp.data.decoded import Allocate, in_memory
from flowpp.data.fit import LUMA
from flowpp.data.reduce import average_blocks

if TYPE_CHECKING:
    import torch

DERIVED = ("grey", "low-resolution", "mask")
"""Sources of the contexts that are computed."""
CHUNK = 4096
"""Images that are computed at a time."""
MASK_SEED = 0x4D61736B
"""Seed of the masks of a data set's images: mask i is the same however many there are."""
LEAST, MOST = 0.25, 0.75
"""Share of the image that a mask hides."""
DRAWS = 5
"""Uniform numbers that a mask is made of."""


def context_shape(kind: str, factor: int, image_shape: Shape) -> Shape:
    """Return the shape (K, h, w) of the context of an image.

    Args:
        kind: grey, low-resolution or mask.
        factor: Side of the blocks of low-resolution.
        image_shape: (C, H, W).

    Raises:
        ValueError: Images that have no such context.
    """
    channels, height, width = image_shape
    if kind == "mask":
        if min(height, width) < 2:
            raise ValueError(f"masks need at least 2 pixels a side, got {height}x{width}")
        return channels + 1, height, width
    if kind == "grey":
        if channels != 3:
            raise ValueError("data.context grey needs colour images, got grey ones")
        return 1, height, width
    if height % factor or width % factor:
        raise ValueError(
            f"data.context low-resolution {factor} needs images with sides divisible by "
            f"{factor}, got {height}x{width} pixels"
        )
    return channels, height // factor, width // factor


def grey(images: np.ndarray, allocate: Allocate = in_memory) -> np.ndarray:
    """Return the luma (ITU-R BT.601) of colour images, rounded: (N, 3, H, W) to (N, 1, H, W).

    Raises:
        ValueError: Images without three channels.
    """
    shape = context_shape("grey", 1, images.shape[1:])
    result = allocate((len(images), *shape), images.dtype)
    weights = np.array(LUMA)
    for i in range(0, len(images), CHUNK):
        sums = np.einsum("nchw,c->nhw", images[i : i + CHUNK].astype(np.int64), weights)
        result[i : i + CHUNK, 0] = (sums + 500) // 1000
    return result


def low_resolution(images: np.ndarray, factor: int, allocate: Allocate = in_memory) -> np.ndarray:
    """Return the means of blocks, rounded half up: (N, C, H, W) to (N, C, H/factor, W/factor).

    Raises:
        ValueError: Sides that `factor` does not divide.
    """
    _, height, width = context_shape("low-resolution", factor, images.shape[1:])
    return average_blocks(images, height, width, allocate)


def masked(images: np.ndarray, masks: np.ndarray, levels: int) -> np.ndarray:
    """Return images with hidden pixels 0, and a channel that is levels - 1 where visible.

    Args:
        images: (N, C, H, W), values 0 ... levels - 1.
        masks: (N, 1, H, W), True where the image is visible.
        levels: Number of values of a channel.

    Returns:
        (N, C + 1, H, W), of the type of the images.

    Raises:
        ValueError: Masks of another shape.
    """
    count, channels, height, width = images.shape
    if masks.shape != (count, 1, height, width):
        raise ValueError(f"masks must have shape {(count, 1, height, width)}, got {masks.shape}")
    result = np.empty((count, channels + 1, height, width), images.dtype)
    np.multiply(images, masks, out=result[:, :-1], casting="unsafe")
    np.multiply(masks, levels - 1, out=result[:, -1:], casting="unsafe")
    return result


def draw_masks(
    count: int, height: int, width: int, generator: np.random.Generator | torch.Generator
) -> np.ndarray:
    """Draw masks: half of them hide a half of the image, the others a rectangle of 1/4 to 3/4.

    Args:
        count: Number of masks.
        height: Pixels.
        width: Pixels.
        generator: Of NumPy, or of torch on the CPU.

    Returns:
        (count, 1, height, width), True where the image is visible.

    Raises:
        ValueError: Images of fewer than 2 pixels a side.
    """
    context_shape("mask", 1, (1, height, width))
    if isinstance(generator, np.random.Generator):
        uniforms = generator.random((count, DRAWS))
    else:
        import torch

        uniforms = torch.rand(count, DRAWS, generator=generator, dtype=torch.float64).numpy()
    tops, lefts, heights, widths = _rectangles(uniforms, height, width)
    rows, columns = np.arange(height)[:, None], np.arange(width)
    corner = (slice(None), None, None)
    hidden = (
        (rows >= tops[corner])
        & (rows < (tops + heights)[corner])
        & (columns >= lefts[corner])
        & (columns < (lefts + widths)[corner])
    )
    return ~hidden[:, None]


def _rectangles(uniforms: np.ndarray, height: int, width: int) -> tuple[np.ndarray, ...]:
    """Return tops, lefts, heights and widths of hidden rectangles, from numbers in [0, 1)."""
    kind, area, aspect, down, right = uniforms.T
    area = LEAST + (MOST - LEAST) * area
    heights = np.ceil(area**aspect * height).astype(np.int64)
    least = np.ceil(LEAST * height * width / heights)
    most = np.minimum(width, np.floor(MOST * height * width / heights))
    widths = np.clip(np.round(area * height * width / heights), least, most).astype(np.int64)
    tops = (down * (height - heights + 1)).astype(np.int64)
    lefts = (right * (width - widths + 1)).astype(np.int64)
    side = np.floor(8 * kind).astype(np.int64)  # 0 ... 3: left, right, upper or lower half
    half, upright = side < 4, side < 2
    heights = np.where(half, np.where(upright, height, height // 2), heights)
    widths = np.where(half, np.where(upright, width // 2, width), widths)
    tops = np.where(half, np.where(side == 3, height - heights, 0), tops)
    lefts = np.where(half, np.where(side == 1, width - widths, 0), lefts)
    return tops, lefts, heights, widths


def fixed_masks(count: int, height: int, width: int) -> np.ndarray:
    """Return the masks of a data set's images, by their index; see `draw_masks`."""
    return draw_masks(count, height, width, np.random.default_rng(MASK_SEED))


def derive(
    images: np.ndarray, levels: int, kind: str, factor: int, allocate: Allocate = in_memory
) -> np.ndarray:
    """Return the contexts of images (N, C, H, W), with fixed masks.

    Args:
        images: Values 0 ... levels - 1.
        levels: Number of values of a channel.
        kind: grey, low-resolution or mask.
        factor: Side of the blocks of low-resolution.
        allocate: Function that returns the array to fill.

    Raises:
        ValueError: Images that have no such context.
    """
    if kind == "grey":
        return grey(images, allocate)
    if kind == "low-resolution":
        return low_resolution(images, factor, allocate)
    count, _, height, width = images.shape
    result = allocate((count, *context_shape(kind, factor, images.shape[1:])), images.dtype)
    generator = np.random.default_rng(MASK_SEED)
    for i in range(0, count, CHUNK):  # the masks of `fixed_masks`, without all at a time
        part = images[i : i + CHUNK]
        masks = draw_masks(len(part), height, width, generator)
        result[i : i + CHUNK] = masked(part, masks, levels)
    return result


def spec_of(kind: str, contexts: np.ndarray) -> ContextSpec:
    """Return the description of derived contexts (N, K, h, w)."""
    return ContextSpec("images", kind, shape=tuple(map(int, contexts.shape[1:])))
