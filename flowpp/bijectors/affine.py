"""Elementwise affine map."""

from __future__ import annotations

import torch
from torch import Tensor

from . import Bijector
from .checks import check_broadcastable, check_images, hold, sum_per_example


class Affine(Bijector):
    """y = x * exp(log_scale) + shift.

    Args:
        log_scale: broadcastable to `(B, C, H, W)`.
        shift: broadcastable to `(B, C, H, W)`.

    Numerics: exp(log_scale) is applied half at a time: alone it may be out of range where the
    result is not.

    Source: Flow++ eqs. 13-16.
    """

    log_scale: Tensor
    shift: Tensor

    def __init__(self, log_scale: Tensor, shift: Tensor) -> None:
        super().__init__()
        hold(self, "log_scale", log_scale)
        hold(self, "shift", shift)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        self._check(x)
        half = torch.exp(0.5 * self.log_scale)
        return x * half * half + self.shift, self._log_det(x)

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        self._check(y)
        half = torch.exp(-0.5 * self.log_scale)
        return (y - self.shift) * half * half, -self._log_det(y)

    def _log_det(self, x: Tensor) -> Tensor:
        return sum_per_example(self.log_scale.expand(x.shape))

    def _check(self, x: Tensor) -> None:
        check_images(x, "Affine")
        check_broadcastable(self.log_scale, x, "Affine", "log_scale")
        check_broadcastable(self.shift, x, "Affine", "shift")
