"""Elementwise affine map."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reference.bijectors.bijector import Array, Bijector
from reference.bijectors.checks import check_broadcastable
from reference.bijectors.fields import set_field
from reference.bijectors.log_dets import sum_per_example


@dataclass(frozen=True, eq=False)
class Affine(Bijector):
    """y = x * exp(log_scale) + shift.

    Attributes:
        log_scale: broadcastable to (B, C, H, W).
        shift: broadcastable to (B, C, H, W).

    Raises:
        ValueError: a field that does not broadcast to the input's shape.

    Numerics: exp(log_scale) is applied half at a time: alone it may be out of range where the
    result is not.

    Source: Flow++ eqs. 13-16.
    """

    log_scale: Array
    shift: Array

    def __post_init__(self) -> None:
        set_field(self, "log_scale")
        set_field(self, "shift")

    def forward(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        half = np.exp(0.5 * self.log_scale)
        return x * half * half + self.shift, self._log_det(x)

    def inverse(self, y: Array, context: Array | None = None) -> tuple[Array, Array]:
        half = np.exp(-0.5 * self.log_scale)
        return (y - self.shift) * half * half, -self._log_det(y)

    def check_fields(self, x: Array, owner: str) -> None:
        check_broadcastable(self.log_scale, x.shape, owner, "log_scale")
        check_broadcastable(self.shift, x.shape, owner, "shift")

    def _log_det(self, x: Array) -> Array:
        return sum_per_example(np.broadcast_to(self.log_scale, x.shape))
