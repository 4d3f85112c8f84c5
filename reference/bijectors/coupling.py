"""Coupling layers: half of the channels decide what happens to the other half."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from reference.bijectors import Bijector
from reference.bijectors.checks import as_images, check_multiple


@dataclass(frozen=True, eq=False)
class Coupling(Bijector):
    """(a, b) -> (a, f(b; theta(a))): section 3.2 of the paper, for whatever f is chosen.

    a is the first half of the channels, b the second.

    Attributes:
        conditioner: theta; called as conditioner(a, context), it returns raw parameters of shape
            (B, (C/2) P, H, W), channel slowest: those of channel c are at c P ... c P + P - 1.
        family: from the raw parameters (B, C/2, H, W, P) to the elementwise bijector f;
            P = family.parameters_per_scalar.

    Raises:
        ValueError: on an odd number of channels, or a conditioner's output of a wrong shape.
    """

    conditioner: Any
    family: Any

    def _halves(self, x: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        x = as_images(x, self)
        check_multiple(self, x.shape[1], 2, "channels")
        a, b = np.split(x, 2, axis=1)
        return a, b

    def _elementwise(self, raw: np.ndarray, shape: tuple[int, ...]) -> Bijector:
        batch, channels, height, width = shape
        parameters = self.family.parameters_per_scalar
        needed = (batch, channels * parameters, height, width)
        if raw.shape != needed:
            raise ValueError(f"Coupling needs a conditioner's output {needed}, got {raw.shape}")
        split = raw.reshape(batch, channels, parameters, height, width)
        return self.family(np.moveaxis(split, 2, -1))

    def forward(
        self, x: ArrayLike, context: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """(a, f(b)), and the log-det of f."""
        a, b = self._halves(x)
        changed, log_det = self._elementwise(self.conditioner(a, context), b.shape).forward(b)
        return np.concatenate([a, changed], axis=1), log_det

    def inverse(
        self, y: ArrayLike, context: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """(a, f^-1(b)), and the log-det of f^-1."""
        a, b = self._halves(y)
        changed, log_det = self._elementwise(self.conditioner(a, context), b.shape).inverse(b)
        return np.concatenate([a, changed], axis=1), log_det

    def initialize(
        self, x: ArrayLike, context: np.ndarray | None = None
    ) -> tuple[Coupling, np.ndarray]:
        """Fit the conditioner, if it can be fitted, and transform with its new output."""
        if not hasattr(self.conditioner, "initialize"):
            return self, self.forward(x, context)[0]
        a, b = self._halves(x)
        conditioner, raw = self.conditioner.initialize(a, context)
        changed, _ = self._elementwise(raw, b.shape).forward(b)
        fitted = dataclasses.replace(self, conditioner=conditioner)
        return fitted, np.concatenate([a, changed], axis=1)
