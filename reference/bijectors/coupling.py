"""Coupling layer: one half of the channels sets an elementwise map of the other half."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from reference.bijectors.bijector import Array, Bijector


@dataclass(frozen=True, eq=False)
class Coupling(Bijector):
    """(a, b) -> (a, f(b)), f = family(conditioner(a, context)).

    Attributes:
        conditioner: (a, context) -> raw, (B, C/2, H, W) -> (B, C/2 * P, H, W); ordered
            channel-major: index = channel * P + parameter.
        family: elementwise bijectors of (B, C/2, H, W, P) parameters,
            P = family.parameters_per_scalar.

    Raises:
        ValueError: an odd number of channels; a conditioner whose output has another shape.

    Source: Flow++ eqs. 13 and 20.
    """

    divisors = inverse_divisors = {"channels": 2}

    conditioner: Any
    family: Any

    def forward(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        a, b = np.split(x, 2, axis=1)
        y, log_det = self.member(self.conditioner(a, context), b).forward(b)
        return np.concatenate([a, y], axis=1), log_det

    def inverse(self, y: Array, context: Array | None = None) -> tuple[Array, Array]:
        a, b = np.split(y, 2, axis=1)
        x, log_det = self.member(self.conditioner(a, context), b).inverse(b)
        return np.concatenate([a, x], axis=1), log_det

    def initialize(self, x: Array, context: Array | None = None) -> tuple[Coupling, Array]:
        """Fit the conditioner, if it has anything to fit, and map with its new output."""
        if not hasattr(self.conditioner, "initialize"):
            return self, self.forward(x, context)[0]
        a, b = np.split(x, 2, axis=1)
        conditioner, raw = self.conditioner.initialize(a, context)
        y, _ = self.member(raw, b).forward(b)
        fitted = dataclasses.replace(self, conditioner=conditioner)
        return fitted, np.concatenate([a, y], axis=1)

    def member(self, raw: Array, b: Array) -> Bijector:
        """Return the elementwise bijector that the conditioner's output sets."""
        per_scalar = self.family.parameters_per_scalar
        batch, channels, height, width = b.shape
        needed = (batch, channels * per_scalar, height, width)
        if raw.shape != needed:
            raise ValueError(
                f"Coupling needs parameters of shape {needed} from its conditioner, "
                f"got {raw.shape}"
            )
        split = raw.reshape(batch, channels, per_scalar, height, width)
        return self.family(np.moveaxis(split, 2, -1))
