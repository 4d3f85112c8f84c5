"""Elementwise affine map."""

from __future__ import annotations

import torch
from torch import Tensor

from .bijector import Bijector
from .checks import check_broadcastable
from .fields import set_field
from .log_dets import sum_per_example


class Affine(Bijector):
    """y = x * exp(log_scale) + shift.

    Args:
        log_scale: broadcastable to `(B, C, H, W)`.
        shift: broadcastable to `(B, C, H, W)`.

    Raises:
        ValueError: a field that does not broadcast to the input's shape.

    Source: Flow++ eqs. 13-16.
    """

    log_scale: Tensor
    shift: Tensor

    def __init__(self, log_scale: Tensor, shift: Tensor) -> None:
        super().__init__()
        set_field(self, "log_scale", log_scale)
        set_field(self, "shift", shift)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return affine(x, self.log_scale, self.shift)

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return affine_inverse(y, self.log_scale, self.shift)

    def check_fields(self, x: Tensor, owner: str) -> None:
        check_broadcastable(self.log_scale, x.shape, owner, "log_scale")
        check_broadcastable(self.shift, x.shape, owner, "shift")


def affine(x: Tensor, log_scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """Compute `Affine.forward` of these fields.

    Numerics: exp(log_scale) is applied half at a time: alone it may be out of range where the
    result is not.
    """
    half = torch.exp(0.5 * log_scale)
    return x * half * half + shift, _log_det(log_scale, x)


def affine_inverse(y: Tensor, log_scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """Compute `Affine.inverse` of these fields."""
    half = torch.exp(-0.5 * log_scale)
    return (y - shift) * half * half, -_log_det(log_scale, y)


def _log_det(log_scale: Tensor, x: Tensor) -> Tensor:
    return sum_per_example(log_scale.expand(x.shape))
