"""Split into even and odd columns, which the released code calls a checkerboard."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reference.bijectors.bijector import Array, Bijector
from reference.bijectors.log_dets import no_log_det


@dataclass(frozen=True, eq=False)
class ColumnStripes(Bijector):
    """(B, C, H, W) -> (B, 2C, H, W/2): y[c, i, j] = x[c, i, 2j], y[C + c, i, j] = x[c, i, 2j + 1].

    Raises:
        ValueError: an odd width (forward) or number of channels (inverse).
    """

    divisors = {"width": 2}
    inverse_divisors = {"channels": 2}
    permutes = True

    def forward(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        return np.concatenate([x[..., 0::2], x[..., 1::2]], axis=1), no_log_det(x)

    def inverse(self, y: Array, context: Array | None = None) -> tuple[Array, Array]:
        batch, channels, height, width = y.shape
        even, odd = np.split(y, 2, axis=1)
        x = np.stack([even, odd], axis=-1).reshape(batch, channels // 2, height, 2 * width)
        return x, no_log_det(y)
