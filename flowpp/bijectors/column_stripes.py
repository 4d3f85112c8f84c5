"""Split into even and odd columns: what the released code calls a checkerboard."""

from __future__ import annotations

import torch
from torch import Tensor

from . import Bijector
from .checks import check_divisible, check_images, no_log_det


class ColumnStripes(Bijector):
    """(B, C, H, W) -> (B, 2C, H, W/2): even columns on the first C channels, odd on the last."""

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        check_images(x, "ColumnStripes")
        check_divisible(x, "ColumnStripes", 3, 2)
        return torch.cat([x[..., 0::2], x[..., 1::2]], dim=1), no_log_det(x)

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        check_images(y, "ColumnStripes inverse")
        check_divisible(y, "ColumnStripes inverse", 1, 2)
        even, odd = y.chunk(2, dim=1)
        return torch.stack([even, odd], dim=-1).flatten(-2), no_log_det(y)
