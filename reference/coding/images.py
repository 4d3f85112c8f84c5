"""Coding of integer images: dequantization, flow and prior."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reference.bijectors.bijector import Array
from reference.dequantization import (
    TruncatedNormalDequantizer,
    UniformDequantizer,
    VariationalDequantizer,
)
from reference.model import FlowPlusPlus

from .bins import Bins, Precision
from .build import step_of
from .stack import CodingError, Normal, Stack, normals, pop_all, push_all
from .steps import Step

UNIFORM = 2.0**20
"""Standard deviation of a normal that is uniform on [0, 1): its ends differ by 1e-13."""


@dataclass(frozen=True)
class Coder:
    """Codes batches of images, one after another, with a model.

    Attributes:
        model: dequantizer and flow, and an augmenter in an augmented model.
        precision: widths of bins.

    Raises:
        ValueError: a conditional model.
    """

    model: FlowPlusPlus
    precision: Precision = Precision()

    def __post_init__(self) -> None:
        if self.model.context_encoder is not None:
            raise ValueError("model must be unconditional, got one with a context encoder")

    def encode(self, stack: Stack, x: Array) -> Bins:
        """Push integer images (B, C, H, W); return z, whose bins are on the stack now.

        Raises:
            CodingError: too few bits on the stack, or a number that is not finite.
        """
        image = self._dequantized(stack, np.asarray(x, dtype=np.int64))
        if self.model.augmenter is not None:
            noise = self._pop_prior(stack, self._line(self._extra(x.shape)))
            image = image.joined(self._augmentation(image).encode(stack, noise))
        z = self._flow().encode(stack, image)
        self._push_prior(stack, z)
        return z

    def decode(self, stack: Stack, shape: tuple[int, ...]) -> Array:
        """Pop images (B, C, H, W), and restore the stack: the inverse of `encode`.

        Raises:
            CodingError: bits that `encode` did not write with this model.
        """
        flow, outline = self._flow(), self._levels(np.zeros(shape, dtype=np.int64))
        if self.model.augmenter is not None:
            outline = outline.joined(self._line(self._extra(shape)))
        image = flow.decode(stack, self._pop_prior(stack, flow.outline(outline)))
        if self.model.augmenter is not None:
            image, e = image.split(shape[1])
            self._push_prior(stack, self._augmentation(image).decode(stack, e))
        x, u = np.divmod(image.numbers, self.precision.per_level)
        if not (0 <= x.min() and x.max() < self.model.levels):
            raise CodingError(f"pixels must be in 0 ... {self.model.levels - 1}, got others")
        self._return_noise(stack, x, u)
        return x

    def _dequantized(self, stack: Stack, x: Array) -> Bins:
        """Pop the noise u, and return the bins of x + u."""
        if isinstance(self.model.dequantizer, VariationalDequantizer):
            noise = self._pop_prior(stack, self._line(x.shape))
            u = self._noise_flow(self.model.dequantizer, x).encode(stack, noise).numbers
        else:
            u = pop_all(stack, self._noise(x), x.shape)
        return self._levels(x * self.precision.per_level + u)

    def _return_noise(self, stack: Stack, x: Array, u: Array) -> None:
        """Push the noise that `_dequantized` has popped."""
        if isinstance(self.model.dequantizer, VariationalDequantizer):
            flow = self._noise_flow(self.model.dequantizer, x)
            self._push_prior(stack, flow.decode(stack, self._levels(u)))
        else:
            push_all(stack, u, self._noise(x))

    def _noise(self, x: Array) -> list[Normal]:
        """Return the distributions of the bins of u, for noise that is independent given x."""
        count, dequantizer = self.precision.per_level, self.model.dequantizer
        if isinstance(dequantizer, TruncatedNormalDequantizer):
            mean, log_scale = dequantizer.distribution(x)
            scale = np.exp(log_scale)
        elif isinstance(dequantizer, UniformDequantizer):
            mean, scale = np.full(x.shape, 0.5), np.full(x.shape, UNIFORM)
        else:
            raise TypeError(
                "dequantizer must have uniform, truncated normal or flow noise, got "
                f"{type(dequantizer).__name__}"
            )
        return normals(mean * count - 0.5, scale * count, np.array(count - 1))

    def _noise_flow(self, dequantizer: VariationalDequantizer, x: Array) -> Step:
        return step_of(dequantizer.flow, self.precision, dequantizer.context(x))

    def _augmentation(self, image: Bins) -> Step:
        assert self.model.augmenter is not None
        context = self.model.augmenter.context(image.values)
        return step_of(self.model.augmenter.flow, self.precision, context)

    def _flow(self) -> Step:
        return step_of(self.model.flow, self.precision)

    def _extra(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        assert self.model.augmenter is not None
        return (shape[0], self.model.augmenter.channels, *shape[2:])

    def _levels(self, numbers: Array) -> Bins:
        return Bins.of_width(numbers, self.precision.level_width)

    def _line(self, shape: tuple[int, ...]) -> Bins:
        return Bins.of_width(np.zeros(shape, dtype=np.int64), self.precision.delta)

    def _push_prior(self, stack: Stack, z: Bins) -> None:
        push_all(stack, z.numbers, _prior(z))

    def _pop_prior(self, stack: Stack, outline: Bins) -> Bins:
        return outline.numbered(pop_all(stack, _prior(outline), outline.numbers.shape))


def _prior(z: Bins) -> list[Normal]:
    """Return N(0, 1) in bins, whose centres are (k + 1/2) width."""
    return normals(np.full(z.widths.shape, -0.5), 1.0 / z.widths)
