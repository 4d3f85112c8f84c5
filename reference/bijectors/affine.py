"""The elementwise affine map of a coupling."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from reference.bijectors import Bijector
from reference.bijectors.checks import as_images, check_broadcasts, set_array, sum_per_example


@dataclass(frozen=True, eq=False)
class Affine(Bijector):
    """y = x * exp(log_scale) + shift.

    Attributes:
        log_scale: a, broadcastable to (B, C, H, W).
        shift: b, broadcastable to (B, C, H, W).

    Numerics: exp(log_scale) is applied half at a time: alone it may be out of range where the
    result is not.

    Raises:
        ValueError: if a field cannot be broadcast to the input.
    """

    log_scale: np.ndarray
    shift: np.ndarray

    def __post_init__(self) -> None:
        set_array(self, "log_scale")
        set_array(self, "shift")

    def _checked(self, x: ArrayLike) -> np.ndarray:
        x = as_images(x, self)
        check_broadcasts(self, "log_scale", self.log_scale.shape, x.shape)
        check_broadcasts(self, "shift", self.shift.shape, x.shape)
        return x

    def _log_det(self, shape: tuple[int, ...]) -> np.ndarray:
        return sum_per_example(np.broadcast_to(self.log_scale, shape))

    def forward(
        self, x: ArrayLike, context: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Scale, then shift: (y, log_det)."""
        x = self._checked(x)
        half = np.exp(0.5 * self.log_scale)
        return x * half * half + self.shift, self._log_det(x.shape)

    def inverse(
        self, y: ArrayLike, context: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Shift, then scale: (x, log_det) with x = (y - shift) / exp(log_scale)."""
        y = self._checked(y)
        half = np.exp(-0.5 * self.log_scale)
        return (y - self.shift) * half * half, -self._log_det(y.shape)
