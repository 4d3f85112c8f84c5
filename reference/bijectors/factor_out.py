"""Multi-scale architecture: half of the variables go to the prior unchanged."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from reference.bijectors.bijector import Array, Bijector


@dataclass(frozen=True, eq=False)
class FactorOut(Bijector):
    """(a, b) -> (bijector(a), b): the last half of the channels goes to the prior unchanged.

    Attributes:
        bijector: maps the first half, and must keep its shape.

    Raises:
        ValueError: an odd number of channels, or a bijector that changes the shape.

    Source: Dinh, Sohl-Dickstein and Bengio 2017, section 3.6. Flow++ itself keeps all variables.
    """

    divisors = inverse_divisors = {"channels": 2}

    bijector: Bijector

    def forward(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        a, b = np.split(x, 2, axis=1)
        y, log_det = self.bijector.forward(a, context)
        return _join(y, b), log_det

    def inverse(self, y: Array, context: Array | None = None) -> tuple[Array, Array]:
        a, b = np.split(y, 2, axis=1)
        x, log_det = self.bijector.inverse(a, context)
        return _join(x, b), log_det

    def initialize(self, x: Array, context: Array | None = None) -> tuple[FactorOut, Array]:
        """Fit the bijector to the first half."""
        a, b = np.split(x, 2, axis=1)
        bijector, y = self.bijector.initialize(a, context)
        return dataclasses.replace(self, bijector=bijector), _join(y, b)


def _join(a: Array, b: Array) -> Array:
    if a.shape != b.shape:
        raise ValueError(
            f"FactorOut needs a bijector that keeps the shape {b.shape}, got {a.shape}"
        )
    return np.concatenate([a, b], axis=1)
