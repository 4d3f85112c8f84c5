"""What a bijector's inputs and outputs are: their shapes, and the interval they lie in."""

from __future__ import annotations

import torch
from torch.distributions import constraints

from ..bijectors import (
    Bijector,
    Chain,
    ChannelSplit,
    Checkerboard,
    ColumnStripes,
    DataLogit,
    Flip,
    Inverse,
    Sigmoid,
    Squeeze,
)

Shape = tuple[int, int, int]
Interval = tuple[float, float]

PERMUTATIONS = (ChannelSplit, Checkerboard, ColumnStripes, Flip, Squeeze)


def output_shape(bijector: Bijector, shape: Shape, *, inverse: bool = False) -> Shape:
    """Shape `(C', H', W')` of one image after the bijector, or after its inverse.

    Permutations are asked, with no memory; compositions are followed; every other bijector keeps
    the shape.

    Raises:
        ValueError: a shape that a permutation in it does not divide; the permutation says which.
    """
    if isinstance(bijector, Chain):
        parts = list(bijector.bijectors)
        for part in reversed(parts) if inverse else parts:
            shape = output_shape(part, shape, inverse=inverse)  # type: ignore[arg-type]
        return shape
    if isinstance(bijector, Inverse):
        return output_shape(bijector.bijector, shape, inverse=not inverse)
    if isinstance(bijector, PERMUTATIONS):
        blank = torch.empty((1, *shape), device="meta")
        moved, _ = bijector.inverse(blank) if inverse else bijector(blank)
        channels, height, width = moved.shape[1:]
        return channels, height, width
    return shape


def interval_of(bijector: Bijector, *, inverse: bool = False) -> Interval | None:
    """The interval of every output of the bijector (its inverse); None for all reals.

    It is the bijector's whole range: that of a `DataLogit`'s inverse is a little wider than
    [0, levels]. After an interval, what is not a permutation counts as reaching all reals.
    """
    if isinstance(bijector, Chain):
        parts = list(bijector.bijectors)
        for part in parts if inverse else reversed(parts):
            if not isinstance(part, PERMUTATIONS):
                return interval_of(part, inverse=inverse)  # type: ignore[arg-type]
        return None
    if isinstance(bijector, Inverse):
        return interval_of(bijector.bijector, inverse=not inverse)
    if isinstance(bijector, Sigmoid) and not inverse:
        return 0.0, 1.0
    if isinstance(bijector, DataLogit) and inverse:
        beyond = bijector.margin * bijector.levels / (1 - 2 * bijector.margin)
        return -beyond, bijector.levels + beyond
    return None


def images_within(interval: Interval | None) -> constraints.Constraint:
    """The constraint on images `(C, H, W)` whose every entry lies in the interval."""
    entry = constraints.real if interval is None else constraints.interval(*interval)
    return constraints.independent(entry, 3)
