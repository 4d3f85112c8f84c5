"""Linear maps of channels as steps."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import lu

from reference.bijectors import Affine
from reference.bijectors.bijector import Array

from .bins import Bins
from .elementwise import Broadcast
from .stack import Stack
from .steps import Sequence, Step


def convolution(weight: Array, sigma: float) -> Sequence:
    """Return the steps of W = P L D U for each group: shears, a scaling, shears, a permutation.

    Raises:
        ValueError: a singular matrix.
    """
    groups, size, _ = weight.shape
    upper, lower = np.zeros((2, groups * size, groups * size))
    scale, rows = np.empty(groups * size), np.empty(groups * size, dtype=np.int64)
    for g, matrix in enumerate(weight):
        own = slice(g * size, (g + 1) * size)
        permutation, lower[own, own], right = lu(matrix)
        scale[own] = np.diagonal(right)
        upper[own, own] = right / scale[own, None]
        rows[own] = g * size + permutation.argmax(axis=1)
    return Sequence(
        (
            Shears(upper, lower=False),
            Signs(np.sign(scale).astype(np.int64)),
            Broadcast(Affine(np.log(np.abs(scale))[:, None, None], np.zeros(1)), sigma),
            Shears(lower, lower=True),
            Channels(rows),
        )
    )


@dataclass(frozen=True)
class Shears(Step):
    """y_i = x_i + sum of weight[i, j] x_j over j before i, or over j after i, by channels.

    One channel at a time is shifted by a multiple of a bin that both sides can compute: no bits.

    Attributes:
        weight: (c, c), read strictly below or strictly above the diagonal.
        lower: whether below.
        subtract: whether to undo the shears instead.

    Source: Ho, Lohn and Abbeel 2019, section 3.4.3, for triangular matrices with a diagonal of 1.
    """

    weight: Array
    lower: bool
    subtract: bool = False

    def encode(self, stack: Stack, x: Bins) -> Bins:
        return self._sheared(x, undo=self.subtract)

    def decode(self, stack: Stack, y: Bins) -> Bins:
        return self._sheared(y, undo=not self.subtract)

    def inverted(self) -> Shears:
        return replace(self, subtract=not self.subtract)

    def _sheared(self, x: Bins, *, undo: bool) -> Bins:
        numbers = x.numbers.copy()
        channels = range(len(self.weight))
        # A channel is shifted while those that its shift is computed from still are x.
        for i in channels if undo == self.lower else reversed(channels):
            others = slice(0, i) if self.lower else slice(i + 1, None)
            values = (numbers[:, others] + 0.5) * x.widths[:, others]
            shift = np.einsum("j,bjhw->bhw", self.weight[i, others], values) / x.widths[:, i]
            numbers[:, i] += (-1 if undo else 1) * np.rint(shift).astype(np.int64)
        return x.numbered(numbers)


@dataclass(frozen=True)
class Signs(Step):
    """y = +x or -x, by channel. Bin k holds -x where bin -1 - k holds x: no bits."""

    signs: Array

    def encode(self, stack: Stack, x: Bins) -> Bins:
        positive = self.signs[:, None, None] > 0
        return x.numbered(np.where(positive, x.numbers, -1 - x.numbers))

    def decode(self, stack: Stack, y: Bins) -> Bins:
        return self.encode(stack, y)

    def inverted(self) -> Signs:
        return self


@dataclass(frozen=True)
class Channels(Step):
    """y[i] = x[rows[i]], by channels."""

    rows: Array

    def encode(self, stack: Stack, x: Bins) -> Bins:
        return self.outline(x)

    def decode(self, stack: Stack, y: Bins) -> Bins:
        return self.inverted().outline(y)

    def inverted(self) -> Channels:
        return Channels(np.argsort(self.rows))

    def outline(self, x: Bins) -> Bins:
        return x.moved(lambda numbers: numbers[:, self.rows])
