"""Elementwise bijectors as steps, by local bits-back coding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from reference.bijectors import ActNorm, Affine, Coupling, MixtureLogistic
from reference.bijectors.act_norm import GAIN_FLOOR
from reference.bijectors.bijector import Array, Bijector

from .bins import Bins
from .stack import Normal, Stack, normals, pop_all, push_all
from .steps import Step

STEEPEST = 2.0**24
"""Largest ratio of the two standard deviations of the noise of a number, and 1 over the
smallest. Beyond it the code is longer than it could be."""


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
        """Return distributions whose means move by `slope` bins per bin of the other side."""
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
        step = elementwise(member, self.sigma)
        return step.inverted() if self.inverse else step


@dataclass(frozen=True)
class Broadcast(Step):
    """An elementwise bijector with fields, which are broadcast to the shape of x."""

    bijector: Any
    sigma: float
    inverse: bool = False

    def encode(self, stack: Stack, x: Bins) -> Bins:
        return self._map(x.numbers.shape).encode(stack, x)

    def decode(self, stack: Stack, y: Bins) -> Bins:
        return self._map(y.numbers.shape).decode(stack, y)

    def inverted(self) -> Broadcast:
        return replace(self, inverse=not self.inverse)

    def _map(self, shape: tuple[int, ...]) -> Elementwise:
        step = elementwise(_for_scalars(self.bijector, shape), self.sigma)
        return step.inverted() if self.inverse else step


def _for_scalars(bijector: Any, shape: tuple[int, ...]) -> Bijector:
    """Return the bijector with one example for each number of an array of this shape."""
    if isinstance(bijector, ActNorm):
        gain = np.maximum(bijector.gain, GAIN_FLOOR)
        return _for_scalars(Affine(log_scale=np.log(gain), shift=bijector.bias), shape)
    if isinstance(bijector, Affine):
        fields = (bijector.log_scale, bijector.shift)
        return Affine(*(_scalars(np.broadcast_to(f, shape)) for f in fields))
    mixture = (bijector.logits, bijector.means, bijector.log_scales)
    wide = (*shape, bijector.logits.shape[-1])
    return MixtureLogistic(*(_scalars(np.broadcast_to(f, wide), last=1) for f in mixture))


def _scalars(array: Array, last: int = 0) -> Array:
    """Make each number an example of one number; `last` axes are kept."""
    kept = array.shape[array.ndim - last :]
    return array.reshape(-1, 1, 1, 1, *kept)


def elementwise(bijector: Bijector, sigma: float, **options: Any) -> Elementwise:
    """Return the step of an elementwise bijector, whose log_det of one number is log dy/dx."""

    def call(method: Callable[[Array], tuple[Array, Array]], x: Array) -> tuple[Array, Array]:
        y, log_det = method(_scalars(x))
        return y.reshape(x.shape), log_det.reshape(x.shape)

    return Elementwise(
        lambda x: call(bijector.forward, x), lambda y: call(bijector.inverse, y), sigma, **options
    )
