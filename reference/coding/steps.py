"""Bijectors as reversible steps on bins and a stack of bits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.linalg import lu

from reference.bijectors import (
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
from reference.bijectors.act_norm import GAIN_FLOOR
from reference.bijectors.bijector import Array, Bijector

from .bins import Bins, Precision
from .stack import Normal, Stack, normals, pop_all, push_all

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
        return x.moved(lambda numbers: self.bijector.forward(numbers)[0])


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

    Attributes:
        forward: values of x to those of y, and to log dy/dx, all of one shape.
        inverse: values of y to those of x, and to log dx/dy.
        sigma: see `Precision`.
        widths: widths of the bins of x and of y; None for those of the other.
        limits: numbers of bins of x and of y, from 0; None for the real line.

    Source: Ho, Lohn and Abbeel 2019, section 3.4.1.
    """

    forward: Callable[[Array], tuple[Array, Array]]
    inverse: Callable[[Array], tuple[Array, Array]]
    sigma: float
    widths: tuple[float | None, float | None] = (None, None)
    limits: tuple[int | None, int | None] = (None, None)

    def encode(self, stack: Stack, x: Bins) -> Bins:
        outline = self.outline(x)
        y = outline.numbered(pop_all(stack, self._of_y(x, outline), x.numbers.shape))
        push_all(stack, x.numbers, self._of_x(y, x))
        return y

    def decode(self, stack: Stack, y: Bins) -> Bins:
        outline = self.inverted().outline(y)
        x = outline.numbered(pop_all(stack, self._of_x(y, outline), y.numbers.shape))
        push_all(stack, y.numbers, self._of_y(x, y))
        return x

    def inverted(self) -> Elementwise:
        return Elementwise(
            self.inverse, self.forward, self.sigma, self.widths[::-1], self.limits[::-1]
        )

    def outline(self, x: Bins) -> Bins:
        width = self.widths[1]
        return x if width is None else Bins.of_width(x.numbers, width)

    def _of_y(self, x: Bins, y: Bins) -> list[Normal]:
        values, log_slope = self.forward(x.values)
        slope = np.exp(log_slope) * x.widths / y.widths
        return self._normals(values / y.widths - 0.5, slope, self.limits[1])

    def _of_x(self, y: Bins, x: Bins) -> list[Normal]:
        values, log_slope = self.inverse(y.values)
        slope = np.exp(log_slope) * y.widths / x.widths
        return self._normals(values / x.widths - 0.5, slope, self.limits[0])

    def _normals(self, mean: Array, slope: Array, limit: int | None) -> list[Normal]:
        """Return distributions of what has this slope in its counterpart."""
        variance = self.sigma**2 + 1.0 / 12.0
        ratio = np.clip(slope, 1.0, STEEPEST)
        std = np.sqrt(variance * ratio * ratio - 1.0 / 12.0)
        return normals(mean, std, None if limit is None else np.array(limit - 1))


@dataclass(frozen=True)
class CouplingStep(Step):
    """(a, b) -> (a, f(b)): both sides have a, and so the elementwise map f.

    Source: Ho, Lohn and Abbeel 2019, section 3.4.2.
    """

    coupling: Coupling
    context: Array | None
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
        split = raw.reshape(batch, channels, -1, height, width)
        member = self.coupling.family(_scalars(np.moveaxis(split, 2, -1), last=1))
        step = _elementwise(member, self.sigma)
        return step.inverted() if self.inverse else step


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


def step_of(bijector: Bijector, precision: Precision, context: Array | None = None) -> Step:
    """Return the step of a bijector.

    Args:
        bijector: of `reference.bijectors`.
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
            return _convolution(bijector.weight, sigma)
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
        gain = np.maximum(bijector.gain, GAIN_FLOOR)
        return _for_scalars(Affine(log_scale=np.log(gain), shift=bijector.bias), shape)
    if isinstance(bijector, Affine):
        fields = (bijector.log_scale, bijector.shift)
        return Affine(*(_scalars(np.broadcast_to(f, shape)) for f in fields))
    fields = (bijector.logits, bijector.means, bijector.log_scales)
    wide = (*shape, bijector.logits.shape[-1])
    return MixtureLogistic(*(_scalars(np.broadcast_to(f, wide), last=1) for f in fields))


def _scalars(array: Array, last: int = 0) -> Array:
    """Make each number an example of one number; `last` axes are kept."""
    kept = array.shape[array.ndim - last :]
    return array.reshape(-1, 1, 1, 1, *kept)


def _elementwise(bijector: Bijector, sigma: float, **options: Any) -> Elementwise:
    """Return the step of an elementwise bijector, whose log_det of one number is log dy/dx."""

    def call(method: Callable[[Array], tuple[Array, Array]], x: Array) -> tuple[Array, Array]:
        y, log_det = method(_scalars(x))
        return y.reshape(x.shape), log_det.reshape(x.shape)

    return Elementwise(
        lambda x: call(bijector.forward, x), lambda y: call(bijector.inverse, y), sigma, **options
    )


def _convolution(weight: Array, sigma: float) -> Sequence:
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
            _Broadcast(Affine(np.log(np.abs(scale))[:, None, None], np.zeros(1)), sigma),
            Shears(lower, lower=True),
            Channels(rows),
        )
    )


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
