"""Composition."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from reference.bijectors import Bijector
from reference.bijectors.checks import as_images


@dataclass(frozen=True, eq=False)
class Chain(Bijector):
    """y = f_n(... f_2(f_1(x))); the log-dets add up.

    Attributes:
        bijectors: (f_1, ..., f_n), in the order in which the forward pass goes through them. The
            same context is given to all.

    Raises:
        TypeError: if an element is not a bijector.
    """

    bijectors: tuple[Bijector, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "bijectors", tuple(self.bijectors))
        for bijector in self.bijectors:
            if not isinstance(bijector, Bijector):
                raise TypeError(f"Chain needs bijectors, got a {type(bijector).__name__}")

    def forward(
        self, x: ArrayLike, context: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """First to last: (y, sum of the log-dets)."""
        y = as_images(x, self)
        total = np.zeros(len(y))
        for bijector in self.bijectors:
            y, log_det = bijector.forward(y, context)
            total = total + log_det
        return y, total

    def inverse(
        self, y: ArrayLike, context: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Last to first: (x, sum of the inverses' log-dets)."""
        x = as_images(y, self)
        total = np.zeros(len(x))
        for bijector in reversed(self.bijectors):
            x, log_det = bijector.inverse(x, context)
            total = total + log_det
        return x, total

    def initialize(
        self, x: ArrayLike, context: np.ndarray | None = None
    ) -> tuple[Chain, np.ndarray]:
        """Fit one after the other, each on what the fitted ones before it give out."""
        y = as_images(x, self)
        fitted = []
        for bijector in self.bijectors:
            bijector, y = bijector.initialize(y, context)
            fitted.append(bijector)
        return dataclasses.replace(self, bijectors=tuple(fitted)), y
