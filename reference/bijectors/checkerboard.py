"""The checkerboard split (RealNVP)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from reference.bijectors import Bijector
from reference.bijectors.checks import as_images, check_multiple


@dataclass(frozen=True, eq=False)
class Checkerboard(Bijector):
    """(B, C, H, W) -> (B, 2C, H, W/2): the squares with i + j even first, then the odd ones.

    In row i: y[c, i, j] = x[c, i, 2j + i % 2] and y[C + c, i, j] = x[c, i, 2j + 1 - i % 2].
    A permutation: log_det = 0.

    Raises:
        ValueError: on an odd width (forward) or number of channels (inverse).
    """

    def forward(
        self, x: ArrayLike, context: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Split into squares: (y, zeros)."""
        x = as_images(x, self)
        batch, channels, height, width = x.shape
        check_multiple(self, width, 2, "columns")
        y = np.empty((batch, 2 * channels, height, width // 2))
        for i in range(height):
            first = i % 2
            y[:, :channels, i] = x[:, :, i, first::2]
            y[:, channels:, i] = x[:, :, i, 1 - first :: 2]
        return y, np.zeros(batch)

    def inverse(
        self, y: ArrayLike, context: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Lay the squares back: (x, zeros)."""
        y = as_images(y, self)
        batch, channels, height, width = y.shape
        check_multiple(self, channels, 2, "channels")
        half = channels // 2
        x = np.empty((batch, half, height, 2 * width))
        for i in range(height):
            first = i % 2
            x[:, :, i, first::2] = y[:, :half, i]
            x[:, :, i, 1 - first :: 2] = y[:, half:, i]
        return x, np.zeros(batch)
