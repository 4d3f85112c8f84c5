"""Linear maps of channels as steps: as in `reference.coding.linear`."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from flowpp.bijectors import Affine, InvertibleConv, InvertibleConvLU

from .bins import Bins
from .elementwise import Broadcast
from .stack import Stack
from .steps import Sequence, Step


def convolution(weight: Tensor, sigma: float) -> Sequence:
    """Return the steps of W = P L D U for each group: shears, a scaling, shears, a permutation.

    Raises:
        ValueError: a singular matrix.
    """
    groups, size, _ = weight.shape
    permutation, left, right = torch.linalg.lu(weight)
    scale = torch.diagonal(right, dim1=1, dim2=2)
    lower, upper = torch.block_diag(*left), torch.block_diag(*(right / scale[:, :, None]))
    rows = (permutation.argmax(2) + size * torch.arange(groups)[:, None]).flatten()
    scale = scale.flatten()
    return Sequence(
        (
            Shears(upper, lower=False),
            Signs(scale.sign().long()),
            Broadcast(Affine(scale.abs().log()[:, None, None], scale.new_zeros(1)), sigma),
            Shears(lower, lower=True),
            Channels(rows),
        )
    )


def matrices(bijector: InvertibleConv | InvertibleConvLU) -> Tensor:
    """Return the matrices of a 1x1 convolution, `(G, c, c)`: the blocks of its map of channels."""
    if isinstance(bijector, InvertibleConv):
        groups, size = bijector.weight.shape[:2]
    else:
        groups, size = bijector.log_diagonal.shape
    columns, _ = bijector(torch.eye(groups * size, dtype=torch.float64)[:, :, None, None])
    whole = columns[:, :, 0, 0].T
    starts = range(0, groups * size, size)
    return torch.stack([whole[i : i + size, i : i + size] for i in starts])


@dataclass(frozen=True)
class Shears(Step):
    """y_i = x_i + sum of weight[i, j] x_j over j before i, or over j after i, by channels.

    One channel at a time is shifted by a multiple of a bin that both sides can compute: no bits.

    Args:
        weight: (c, c), read strictly below or strictly above the diagonal.
        lower: whether below.
        subtract: whether to undo the shears instead.

    Source: Ho, Lohn and Abbeel 2019, section 3.4.3, for triangular matrices with a diagonal of 1.
    """

    weight: Tensor
    lower: bool
    subtract: bool = False

    def encode(self, stack: Stack, x: Bins) -> Bins:
        return self._sheared(x, undo=self.subtract)

    def decode(self, stack: Stack, y: Bins) -> Bins:
        return self._sheared(y, undo=not self.subtract)

    def inverted(self) -> Shears:
        return replace(self, subtract=not self.subtract)

    def _sheared(self, x: Bins, *, undo: bool) -> Bins:
        numbers = x.numbers.clone(memory_format=torch.contiguous_format)
        channels = range(len(self.weight))
        # A channel is shifted while those that its shift is computed from still are x.
        for i in channels if undo == self.lower else reversed(channels):
            others = slice(0, i) if self.lower else slice(i + 1, None)
            values = ((numbers[:, others].double() + 0.5) * x.widths[:, others]).contiguous()
            shift = torch.einsum("j,bjhw->bhw", self.weight[i, others], values) / x.widths[:, i]
            numbers[:, i] += (-1 if undo else 1) * shift.round().long()
        return x.numbered(numbers)


@dataclass(frozen=True)
class Signs(Step):
    """y = +x or -x, by channel. Bin k holds -x where bin -1 - k holds x: no bits."""

    signs: Tensor

    def encode(self, stack: Stack, x: Bins) -> Bins:
        positive = self.signs[:, None, None] > 0
        return x.numbered(torch.where(positive, x.numbers, -1 - x.numbers))

    def decode(self, stack: Stack, y: Bins) -> Bins:
        return self.encode(stack, y)

    def inverted(self) -> Signs:
        return self


@dataclass(frozen=True)
class Channels(Step):
    """y[i] = x[rows[i]], by channels."""

    rows: Tensor

    def encode(self, stack: Stack, x: Bins) -> Bins:
        return self.outline(x)

    def decode(self, stack: Stack, y: Bins) -> Bins:
        return self.inverted().outline(y)

    def inverted(self) -> Channels:
        return Channels(self.rows.argsort())

    def outline(self, x: Bins) -> Bins:
        return x.moved(lambda numbers: numbers[:, self.rows])
