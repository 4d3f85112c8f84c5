"""Exchange of the channel halves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reference.bijectors.bijector import Array, Bijector
from reference.bijectors.log_dets import no_log_det


@dataclass(frozen=True, eq=False)
class Flip(Bijector):
    """(a, b) -> (b, a): swaps the channel halves, so that the next coupling maps the other half.

    Its own inverse.

    Raises:
        ValueError: an odd number of channels.
    """

    divisors = inverse_divisors = {"channels": 2}
    permutes = True

    def forward(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        a, b = np.split(x, 2, axis=1)
        return np.concatenate([b, a], axis=1), no_log_det(x)

    def inverse(self, y: Array, context: Array | None = None) -> tuple[Array, Array]:
        return self.forward(y)
