"""Space to depth: each 2x2 block of pixels becomes four channels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from reference.bijectors import Bijector
from reference.bijectors.checks import as_images, check_multiple


@dataclass(frozen=True, eq=False)
class Squeeze(Bijector):
    """(B, C, H, W) -> (B, 4C, H/2, W/2): y[(2 dy + dx) C + c, i, j] = x[c, 2i + dy, 2j + dx].

    A permutation: log_det = 0.

    Raises:
        ValueError: on an odd height or width (forward), or if the number of channels is not a
            multiple of 4 (inverse).
    """

    def forward(
        self, x: ArrayLike, context: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Space to depth: (y, zeros)."""
        x = as_images(x, self)
        check_multiple(self, x.shape[2], 2, "rows")
        check_multiple(self, x.shape[3], 2, "columns")
        corners = [x[:, :, dy::2, dx::2] for dy in (0, 1) for dx in (0, 1)]
        return np.concatenate(corners, axis=1), np.zeros(len(x))

    def inverse(
        self, y: ArrayLike, context: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Depth to space: (x, zeros)."""
        y = as_images(y, self)
        batch, channels, height, width = y.shape
        check_multiple(self, channels, 4, "channels")
        x = np.empty((batch, channels // 4, 2 * height, 2 * width))
        corners = iter(np.split(y, 4, axis=1))
        for dy in (0, 1):
            for dx in (0, 1):
                x[:, :, dy::2, dx::2] = next(corners)
        return x, np.zeros(batch)
