"""A bijector the other way round."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from reference.bijectors import Bijector


@dataclass(frozen=True, eq=False)
class Inverse(Bijector):
    """forward and inverse of `bijector` exchanged, as when a split is undone."""

    bijector: Bijector

    def __post_init__(self) -> None:
        if not isinstance(self.bijector, Bijector):
            raise TypeError(f"Inverse needs a bijector, got a {type(self.bijector).__name__}")

    def forward(
        self, x: ArrayLike, context: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The bijector's inverse."""
        return self.bijector.inverse(x, context)

    def inverse(
        self, y: ArrayLike, context: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The bijector's forward."""
        return self.bijector.forward(y, context)
