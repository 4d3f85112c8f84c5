"""Multi-scale factoring out: half of the channels go to the prior as they are."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from reference.bijectors import Bijector
from reference.bijectors.checks import as_images, check_multiple


@dataclass(frozen=True, eq=False)
class FactorOut(Bijector):
    """(a, b) -> (f(a), b): the second half of the channels is finished, the first goes on.

    Attributes:
        bijector: f; it must keep the shape of its input.

    Raises:
        ValueError: on an odd number of channels, or if f changes the shape.
    """

    bijector: Bijector

    def _halves(self, x: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        x = as_images(x, self)
        check_multiple(self, x.shape[1], 2, "channels")
        a, b = np.split(x, 2, axis=1)
        return a, b

    def _joined(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        if a.shape != b.shape:
            raise ValueError(
                f"FactorOut needs a bijector that keeps the shape {b.shape}, got {a.shape}"
            )
        return np.concatenate([a, b], axis=1)

    def forward(
        self, x: ArrayLike, context: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """((f(a), b), log_det of f)."""
        a, b = self._halves(x)
        a, log_det = self.bijector.forward(a, context)
        return self._joined(a, b), log_det

    def inverse(
        self, y: ArrayLike, context: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """((f^-1(a), b), log_det of f^-1)."""
        a, b = self._halves(y)
        a, log_det = self.bijector.inverse(a, context)
        return self._joined(a, b), log_det

    def initialize(
        self, x: ArrayLike, context: np.ndarray | None = None
    ) -> tuple[FactorOut, np.ndarray]:
        """Fit f to the first half."""
        a, b = self._halves(x)
        bijector, a = self.bijector.initialize(a, context)
        return dataclasses.replace(self, bijector=bijector), self._joined(a, b)
