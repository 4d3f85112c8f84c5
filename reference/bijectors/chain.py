"""Composition."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from reference.bijectors.bijector import Array, Bijector, Shape
from reference.bijectors.log_dets import no_log_det


@dataclass(frozen=True, eq=False)
class Chain(Bijector):
    """y = f_n(... f_2(f_1(x))); log-determinants add.

    Attributes:
        bijectors: f_1, ..., f_n. Each receives the context.

    Raises:
        TypeError: an element that is not a bijector.
    """

    bijectors: tuple[Bijector, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "bijectors", tuple(self.bijectors))
        for bijector in self.bijectors:
            if not isinstance(bijector, Bijector):
                raise TypeError(f"Chain needs bijectors, got a {type(bijector).__name__}")

    def forward(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        total = no_log_det(x)
        for bijector in self.bijectors:
            x, log_det = bijector.forward(x, context)
            total = total + log_det
        return x, total

    def inverse(self, y: Array, context: Array | None = None) -> tuple[Array, Array]:
        total = no_log_det(y)
        for bijector in reversed(self.bijectors):
            y, log_det = bijector.inverse(y, context)
            total = total + log_det
        return y, total

    def initialize(self, x: Array, context: Array | None = None) -> tuple[Chain, Array]:
        """Fit the bijectors in order, each to the output of the fitted ones before it."""
        fitted = []
        for bijector in self.bijectors:
            bijector, x = bijector.initialize(x, context)
            fitted.append(bijector)
        return dataclasses.replace(self, bijectors=tuple(fitted)), x

    def output_shape(self, shape: Shape, *, inverse: bool = False) -> Shape:
        """Return the shape of one image after all bijectors, or after their inverses."""
        for bijector in reversed(self.bijectors) if inverse else self.bijectors:
            shape = bijector.output_shape(shape, inverse=inverse)
        return shape
