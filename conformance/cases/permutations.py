"""Cases of the permutations of channels and positions, and of the 1x1 convolutions."""

from __future__ import annotations

import numpy as np

from reference.bijectors import (
    ChannelSplit,
    Checkerboard,
    ColumnStripes,
    Flip,
    InvertibleConv,
    InvertibleConvLU,
    Squeeze,
)

from .case import Case, Tolerance
from .draws import Rng, magnitudes, matrices, normal

SHAPE = (2, 4, 6)
FEW_POSITIONS = (2, 3)
MANY = 40
"""Channels of a matrix whose determinant, about 1e-52, is 0 in float32."""
_CANCEL = "numbers of size 100 that cancel to 1"
SUMS = {
    "forward": Tolerance(150, _CANCEL),
    "batch": Tolerance(48, _CANCEL),
    "round_trip_y": Tolerance(96, "two triangular factors, worse conditioned than their product"),
}


def _lu(rng: Rng, groups: int, size: int) -> InvertibleConvLU:
    square = (groups, size, size)
    return InvertibleConvLU(
        # Not its own inverse, so that applying the inverse permutation is an error.
        np.stack([np.roll(np.arange(size), 1 + g) for g in range(groups)]),
        0.4 * rng.standard_normal(square),
        0.4 * rng.standard_normal(square),
        0.4 * rng.standard_normal(square[:2]),
        rng.choice([-1.0, 1.0], square[:2]),
    )


def _permutation(name: str, bijector: type, *shape: int) -> Case:
    shape = shape or SHAPE
    return Case(name, lambda rng: bijector(), normal(*shape), magnitudes(*shape, largest=1e6))


def _conv(name: str, build) -> Case:
    shape = (6, *FEW_POSITIONS)
    tails = magnitudes(*shape, largest=100.0)
    return Case(name, build, normal(*shape), tails, tolerances=SUMS)


CASES = (
    _permutation("checkerboard", Checkerboard),
    _permutation("column_stripes", ColumnStripes),
    _permutation("channel_split", ChannelSplit),
    _permutation("squeeze", Squeeze),
    _permutation("flip", Flip),
    # Two channels cannot distinguish some permutations of halves and thirds.
    _permutation("checkerboard/colour", Checkerboard, 3, *SHAPE[1:]),
    _permutation("column_stripes/colour", ColumnStripes, 3, *SHAPE[1:]),
    _permutation("channel_split/twelve", ChannelSplit, 12, *FEW_POSITIONS),
    _permutation("flip/six", Flip, 6, *FEW_POSITIONS),
    _conv("invertible_conv/joint", lambda rng: InvertibleConv(matrices(rng, 1, 6))),
    _conv("invertible_conv/halves", lambda rng: InvertibleConv(matrices(rng, 2, 3))),
    Case(
        "invertible_conv/small_determinant",
        lambda rng: InvertibleConv(0.05 * matrices(rng, 1, MANY)),
        normal(MANY, 1, 2),
        magnitudes(MANY, 1, 2, largest=100.0),
        tolerances=SUMS,
    ),
    _conv("invertible_conv_lu/joint", lambda rng: _lu(rng, 1, 6)),
    _conv("invertible_conv_lu/halves", lambda rng: _lu(rng, 2, 3)),
)
