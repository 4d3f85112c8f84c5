"""The split into channel halves: nothing to do, as halves lie on the channel axis anyway."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from reference.bijectors import Bijector
from reference.bijectors.checks import as_images, check_multiple


@dataclass(frozen=True, eq=False)
class ChannelSplit(Bijector):
    """y = x, for an even number of channels; log_det = 0.

    Raises:
        ValueError: on an odd number of channels.
    """

    def forward(
        self, x: ArrayLike, context: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """(x, zeros)."""
        x = as_images(x, self)
        check_multiple(self, x.shape[1], 2, "channels")
        return x, np.zeros(len(x))

    def inverse(
        self, y: ArrayLike, context: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """(y, zeros)."""
        return self.forward(y)
