"""Split into even and odd columns, which the released code calls a checkerboard."""

from __future__ import annotations

import torch
from torch import Tensor

from .bijector import Bijector
from .log_dets import no_log_det


class ColumnStripes(Bijector):
    """(B, C, H, W) -> (B, 2C, H, W/2): y[c, i, j] = x[c, i, 2j], y[C + c, i, j] = x[c, i, 2j + 1].

    Raises:
        ValueError: an odd width (forward) or number of channels (inverse).
    """

    divisors = {"width": 2}
    inverse_divisors = {"channels": 2}
    permutes = True

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return torch.cat([x[..., 0::2], x[..., 1::2]], dim=1), no_log_det(x)

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        even, odd = y.chunk(2, dim=1)
        return torch.stack([even, odd], dim=-1).flatten(-2), no_log_det(y)
