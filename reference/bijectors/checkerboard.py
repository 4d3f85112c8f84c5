"""Split into the black and the white squares of a checkerboard."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reference.bijectors.bijector import Array, Bijector
from reference.bijectors.log_dets import no_log_det


@dataclass(frozen=True, eq=False)
class Checkerboard(Bijector):
    """(B, C, H, W) -> (B, 2C, H, W/2): squares with i + j even first, those with i + j odd last.

    In row i: y[c, i, j] = x[c, i, 2j + i % 2] and y[C + c, i, j] = x[c, i, 2j + 1 - i % 2].

    Raises:
        ValueError: an odd width (forward) or number of channels (inverse).

    Source: Dinh, Sohl-Dickstein and Bengio 2017, section 3.4; the paper's text, not its code.
    """

    divisors = {"width": 2}
    inverse_divisors = {"channels": 2}
    permutes = True

    def forward(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        batch, channels, height, width = x.shape
        y = np.empty((batch, 2 * channels, height, width // 2))
        for i in range(height):
            first = i % 2
            y[:, :channels, i] = x[:, :, i, first::2]
            y[:, channels:, i] = x[:, :, i, 1 - first :: 2]
        return y, no_log_det(x)

    def inverse(self, y: Array, context: Array | None = None) -> tuple[Array, Array]:
        batch, channels, height, width = y.shape
        half = channels // 2
        x = np.empty((batch, half, height, 2 * width))
        for i in range(height):
            first = i % 2
            x[:, :, i, first::2] = y[:, :half, i]
            x[:, :, i, 1 - first :: 2] = y[:, half:, i]
        return x, no_log_det(y)
