"""Exchange of the two halves, so that the next coupling changes the other one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from reference.bijectors import Bijector
from reference.bijectors.checks import as_images, check_multiple


@dataclass(frozen=True, eq=False)
class Flip(Bijector):
    """(a, b) -> (b, a), the halves of the channels; log_det = 0, its own inverse.

    Raises:
        ValueError: on an odd number of channels.
    """

    def forward(
        self, x: ArrayLike, context: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """(the halves exchanged, zeros)."""
        x = as_images(x, self)
        check_multiple(self, x.shape[1], 2, "channels")
        return np.roll(x, x.shape[1] // 2, axis=1), np.zeros(len(x))

    def inverse(
        self, y: ArrayLike, context: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """(the halves exchanged, zeros)."""
        return self.forward(y)
