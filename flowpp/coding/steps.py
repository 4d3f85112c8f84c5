"""Bijectors as reversible steps on bins and a stack of bits: as in `reference.coding.steps`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from flowpp.bijectors import (
    ActNorm,
    Affine,
    Chain,
    ChannelSplit,
    Checkerboard,
    ColumnStripes,
    Coupling,
    DataLogit,
    FactorOut,
    FirstChannels,
    Flip,
    Inverse,
    InvertibleConv,
    InvertibleConvLU,
    MixtureLogistic,
    Sigmoid,
    Squeeze,
)
from flowpp.bijectors.act_norm import GAIN_FLOOR
from flowpp.bijectors.bijector import Bijector

from .bins import Bins, Precision
from .normals import Normals, Tails
from .stack import Stack

PERMUTATIONS = (Checkerboard, ChannelSplit, ColumnStripes, Flip, Squeeze)
STEEPEST = 2.0**24
"""Largest ratio of the two standard deviations of the noise of a number, and 1 over the
smallest. Beyond it the code is longer than it could be."""


class Step(ABC):
    """A bijection of bins that pops bits from a stack, and pushes bits onto it."""

    @abstractmethod
    def encode(self, stack: Stack, x: Bins) -> Bins:
        """Map x to y; the stack grows by -log2 |det dy/dx| bits in expectation, bins equal."""

    @abstractmethod
    def decode(self, stack: Stack, y: Bins) -> Bins:
        """Map y to x, and restore the stack: the inverse of `encode`."""

    @abstractmethod
    def inverted(self) -> Step:
        """Return the step of the inverse bijector."""

    def outline(self, x: Bins) -> Bins:
        """Return bins of the shape and widths of y; their numbers mean nothing."""
        return x


@dataclass(frozen=True)
class Sequence(Step):
    """Steps one after the other."""

    steps: tuple[Step, ...]

    def encode(self, stack: Stack, x: Bins) -> Bins:
        for step in self.steps:
            x = step.encode(stack, x)
        return x

    def decode(self, stack: Stack, y: Bins) -> Bins:
        for step in reversed(self.steps):
            y = step.decode(stack, y)
        return y

    def inverted(self) -> Sequence:
        return Sequence(tuple(step.inverted() for step in reversed(self.steps)))

    def outline(self, x: Bins) -> Bins:
        for step in self.steps:
            x = step.outline(x)
        return x


@dataclass(frozen=True)
class Permutation(Step):
    """A bijector that only moves numbers: no bits."""

    bijector: Bijector

    def encode(self, stack: Stack, x: Bins) -> Bins:
        return self.outline(x)

    def decode(self, stack: Stack, y: Bins) -> Bins:
        return y.moved(lambda numbers: self.bijector.inverse(numbers)[0])

    def inverted(self) -> Permutation:
        return Permutation(Inverse(self.bijector))

    def outline(self, x: Bins) -> Bins:
        return x.moved(lambda numbers: self.bijector(numbers)[0])


@dataclass(frozen=True)
class OnChannels(Step):
    """A step on the first channels; the others are unchanged."""

    step: Step
    channels: Callable[[int], int]

    def encode(self, stack: Stack, x: Bins) -> Bins:
        first, rest = x.split(self.channels(x.numbers.shape[1]))
        return self.step.encode(stack, first).joined(rest)

    def decode(self, stack: Stack, y: Bins) -> Bins:
        first, rest = y.split(self.channels(y.numbers.shape[1]))
        return self.step.decode(stack, first).joined(rest)

    def inverted(self) -> OnChannels:
        return replace(self, step=self.step.inverted())

    def outline(self, x: Bins) -> Bins:
        first, rest = x.split(self.channels(x.numbers.shape[1]))
        return self.step.outline(first).joined(rest)


@dataclass(frozen=True)
class Elementwise(Step):
    """An increasing function of each number, by local bits-back coding.

    encode pops y ~ N(f(x), std_y^2) and pushes x ~ N(f^-1(y), std_x^2). Rounding to bins adds the
    variance 1/12 to each, in bins. With the slope g of f in bins,

        std_y^2 + 1/12 = g^2 (std_x^2 + 1/12),    the smaller of the two being sigma,

    x - f^-1(y) has just the variance that it is pushed with.

    Args:
        forward: values of x to those of y, and to log dy/dx, all of one shape.
        inverse: values of y to those of x, and to log dx/dy.
        sigma: see `Precision`.
        widths: widths of the bins of x and of y; None for those of the other.
        limits: numbers of bins of x and of y, from 0; None for the real line.

    Source: Ho, Lohn and Abbeel 2019, section 3.4.1.
    """

    forward: Callable[[Tensor], tuple[Tensor, Tensor]]
    inverse: Callable[[Tensor], tuple[Tensor, Tensor]]
    sigma: float
    widths: tuple[float | None, float | None] = (None, None)
    limits: tuple[int | None, int | None] = (None, None)

    def encode(self, stack: Stack, x: Bins) -> Bins:
        outline = self.outline(x)
        y = outline.numbered(_pop(stack, self._of_y(x, outline, "cut"), x))
        _push(stack, self._of_x(y, x, "coded"), x)
        return y

    def decode(self, stack: Stack, y: Bins) -> Bins:
        outline = self.inverted().outline(y)
        x = outline.numbered(_pop(stack, self._of_x(y, outline, "coded"), y))
        _push(stack, self._of_y(x, y, "cut"), y)
        return x

    def inverted(self) -> Elementwise:
        return Elementwise(
            self.inverse, self.forward, self.sigma, self.widths[::-1], self.limits[::-1]
        )

    def outline(self, x: Bins) -> Bins:
        width = self.widths[1]
        return x if width is None else Bins.of_width(x.numbers, width)

    def _of_y(self, x: Bins, y: Bins, tails: Tails) -> Normals:
        values, log_slope = self.forward(x.values)
        slope = torch.exp(log_slope) * x.widths / y.widths
        return self._normals(values / y.widths - 0.5, slope, tails, self.limits[1])

    def _of_x(self, y: Bins, x: Bins, tails: Tails) -> Normals:
        values, log_slope = self.inverse(y.values)
        slope = torch.exp(log_slope) * y.widths / x.widths
        return self._normals(values / x.widths - 0.5, slope, tails, self.limits[0])

    def _normals(self, mean: Tensor, slope: Tensor, tails: Tails, limit: int | None) -> Normals:
        """Return distributions of what has this slope in its counterpart."""
        variance = self.sigma**2 + 1.0 / 12.0
        ratio = slope.clamp(1.0, STEEPEST)
        std = torch.sqrt(variance * ratio * ratio - 1.0 / 12.0)
        return Normals(mean.flatten().numpy(), std.flatten().numpy(), tails, limit)


def _push(stack: Stack, distributions: Normals, bins: Bins) -> None:
    distributions.push(stack, bins.numbers.flatten().numpy())


def _pop(stack: Stack, distributions: Normals, like: Bins) -> Tensor:
    return torch.from_numpy(distributions.pop(stack)).reshape(like.numbers.shape)


@dataclass(frozen=True)
class CouplingStep(Step):
    """(a, b) -> (a, f(b)): both sides have a, and so the elementwise map f.

    Source: Ho, Lohn and Abbeel 2019, section 3.4.2.
    """

    coupling: Coupling
    context: Tensor | None
    sigma: float
    inverse: bool = False

    def encode(self, stack: Stack, x: Bins) -> Bins:
        a, b = x.split(x.numbers.shape[1] // 2)
        return a.joined(self._map(a, b).encode(stack, b))

    def decode(self, stack: Stack, y: Bins) -> Bins:
        a, b = y.split(y.numbers.shape[1] // 2)
        return a.joined(self._map(a, b).decode(stack, b))

    def inverted(self) -> CouplingStep:
        return replace(self, inverse=not self.inverse)

    def _map(self, a: Bins, b: Bins) -> Elementwise:
        raw = self.coupling.conditioner(a.values, self.context)
        batch, channels, height, width = b.numbers.shape
        split = raw.reshape(batch, channels, -1, height, width).permute(0, 1, 3, 4, 2)
        parameters, family = _scalars(split, last=1), self.coupling.family
        step = _by_scalars(
            lambda x: family.transform(x, parameters),
            lambda y: family.inverse_transform(y, parameters),
            self.sigma,
        )
        return step.inverted() if self.inverse else step


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
        numbers = x.numbers.clone()
        channels = range(len(self.weight))
        # A channel is shifted while those that its shift is computed from still are x.
        for i in channels if undo == self.lower else reversed(channels):
            others = slice(0, i) if self.lower else slice(i + 1, None)
            values = (numbers[:, others].double() + 0.5) * x.widths[:, others]
            shift = torch.einsum("j,bjhw->bhw", self.weight[i, others], values) / x.widths[:, i]
            numbers[:, i] += (-1 if undo else 1) * shift.round().long()
        return x.numbered(numbers)


def step_of(bijector: Bijector, precision: Precision, context: Tensor | None = None) -> Step:
    """Return the step of a bijector.

    Args:
        bijector: of `flowpp.bijectors`.
        precision: widths of bins.
        context: for its couplings.

    Raises:
        TypeError: a bijector without a code.
    """
    sigma, level, line = precision.sigma, precision.level_width, precision.delta
    match bijector:
        case Chain():
            return Sequence(tuple(step_of(b, precision, context) for b in bijector.bijectors))
        case Inverse():
            return step_of(bijector.bijector, precision, context).inverted()
        case FactorOut():
            return OnChannels(step_of(bijector.bijector, precision, context), _half)
        case FirstChannels():
            inner, channels = bijector.bijector, bijector.channels
            return OnChannels(step_of(inner, precision, context), lambda _: channels)
        case Coupling():
            return CouplingStep(bijector, context, sigma)
        case InvertibleConv() | InvertibleConvLU():
            return _convolution(_matrices(bijector), sigma)
        case DataLogit():
            return _elementwise(bijector, sigma, widths=(level, line))
        case Sigmoid():
            limits = (None, precision.per_level)
            return _elementwise(bijector, sigma, widths=(line, level), limits=limits)
        case ActNorm() | Affine() | MixtureLogistic():
            return _Broadcast(bijector, sigma)
    if isinstance(bijector, PERMUTATIONS):
        return Permutation(bijector)
    raise TypeError(f"there is no code for a {type(bijector).__name__}")


def _half(channels: int) -> int:
    return channels // 2


@dataclass(frozen=True)
class _Broadcast(Step):
    """An elementwise bijector with fields, which are broadcast to the shape of x."""

    bijector: Any
    sigma: float
    inverse: bool = False

    def encode(self, stack: Stack, x: Bins) -> Bins:
        return self._map(x.numbers.shape).encode(stack, x)

    def decode(self, stack: Stack, y: Bins) -> Bins:
        return self._map(y.numbers.shape).decode(stack, y)

    def inverted(self) -> _Broadcast:
        return replace(self, inverse=not self.inverse)

    def _map(self, shape: tuple[int, ...]) -> Elementwise:
        step = _elementwise(_for_scalars(self.bijector, shape), self.sigma)
        return step.inverted() if self.inverse else step


def _for_scalars(bijector: Any, shape: tuple[int, ...]) -> Bijector:
    """Return the bijector with one example for each number of an array of this shape."""
    if isinstance(bijector, ActNorm):
        gain = bijector.gain.clamp(min=GAIN_FLOOR)
        return _for_scalars(Affine(log_scale=torch.log(gain), shift=bijector.bias), shape)
    if isinstance(bijector, Affine):
        fields = (bijector.log_scale, bijector.shift)
        return Affine(*(_scalars(f.expand(shape)) for f in fields))
    fields = (bijector.logits, bijector.means, bijector.log_scales)
    wide = (*shape, bijector.logits.shape[-1])
    return MixtureLogistic(*(_scalars(f.expand(wide), last=1) for f in fields))


def _scalars(array: Tensor, last: int = 0) -> Tensor:
    """Make each number an example of one number; `last` axes are kept."""
    kept = array.shape[array.ndim - last :]
    return array.reshape(-1, 1, 1, 1, *kept)


Map = Callable[[Tensor], tuple[Tensor, Tensor]]


def _elementwise(bijector: Bijector, sigma: float, **options: Any) -> Elementwise:
    """Return the step of an elementwise bijector."""
    return _by_scalars(bijector, bijector.inverse, sigma, **options)


def _by_scalars(forward: Map, inverse: Map, sigma: float, **options: Any) -> Elementwise:
    """Return the step of maps of examples of one number, whose log_det is log dy/dx."""

    def call(method: Map, x: Tensor) -> tuple[Tensor, Tensor]:
        y, log_det = method(_scalars(x))
        return y.reshape(x.shape), log_det.reshape(x.shape)

    return Elementwise(
        lambda x: call(forward, x), lambda y: call(inverse, y), sigma, **options
    )


def _matrices(bijector: InvertibleConv | InvertibleConvLU) -> Tensor:
    """Return the matrices of a 1x1 convolution, `(G, c, c)`: its action on unit vectors."""
    groups = (bijector.weight if isinstance(bijector, InvertibleConv) else bijector.lower).shape[0]
    size = bijector.lower.shape[1] if isinstance(bijector, InvertibleConvLU) else bijector.weight.shape[1]
    unit = torch.eye(size, dtype=torch.float64).repeat(1, groups)[:, :, None, None]
    columns, _ = bijector(unit)
    return columns[:, :, 0, 0].T.reshape(groups, size, size)


def _convolution(weight: Tensor, sigma: float) -> Sequence:
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
            _Broadcast(Affine(scale.abs().log()[:, None, None], scale.new_zeros(1)), sigma),
            Shears(lower, lower=True),
            Channels(rows),
        )
    )


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
