"""Space to depth: each 2x2 block of pixels becomes four channels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reference.bijectors.bijector import Array, Bijector
from reference.bijectors.log_dets import no_log_det


@dataclass(frozen=True, eq=False)
class Squeeze(Bijector):
    """(B, C, H, W) -> (B, 4C, H/2, W/2): y[(2 dy + dx) C + c, i, j] = x[c, 2i + dy, 2j + dx].

    Raises:
        ValueError: an odd height or width (forward), or a number of channels that 4 does not
            divide (inverse).

    Source: Dinh, Sohl-Dickstein and Bengio 2017, section 3.6.
    """

    divisors = {"height": 2, "width": 2}
    inverse_divisors = {"channels": 4}
    permutes = True

    def forward(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        corners = [x[:, :, dy::2, dx::2] for dy in (0, 1) for dx in (0, 1)]
        return np.concatenate(corners, axis=1), no_log_det(x)

    def inverse(self, y: Array, context: Array | None = None) -> tuple[Array, Array]:
        batch, channels, height, width = y.shape
        x = np.empty((batch, channels // 4, 2 * height, 2 * width))
        corners = iter(np.split(y, 4, axis=1))
        for dy in (0, 1):
            for dx in (0, 1):
                x[:, :, dy::2, dx::2] = next(corners)
        return x, no_log_det(y)
