"""The split into column stripes: what the released code calls a checkerboard."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from reference.bijectors import Bijector
from reference.bijectors.checks import as_images, check_multiple


@dataclass(frozen=True, eq=False)
class ColumnStripes(Bijector):
    """(B, C, H, W) -> (B, 2C, H, W/2): y[c, i, j] = x[c, i, 2j], y[C + c, i, j] = x[c, i, 2j + 1].

    A permutation: log_det = 0.

    Raises:
        ValueError: on an odd width (forward) or number of channels (inverse).
    """

    def forward(
        self, x: ArrayLike, context: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Even columns, then odd ones: (y, zeros)."""
        x = as_images(x, self)
        check_multiple(self, x.shape[3], 2, "columns")
        return np.concatenate([x[..., 0::2], x[..., 1::2]], axis=1), np.zeros(len(x))

    def inverse(
        self, y: ArrayLike, context: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Interleave the columns again: (x, zeros)."""
        y = as_images(y, self)
        batch, channels, height, width = y.shape
        check_multiple(self, channels, 2, "channels")
        even, odd = np.split(y, 2, axis=1)
        x = np.stack([even, odd], axis=-1).reshape(batch, channels // 2, height, 2 * width)
        return x, np.zeros(batch)
