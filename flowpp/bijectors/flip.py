"""Exchange of the two halves."""

from __future__ import annotations

import torch
from torch import Tensor

from . import Bijector
from .checks import check_divisible, check_images, no_log_det


class Flip(Bijector):
    """(a, b) -> (b, a): channel halves change places, so that the next coupling maps the other."""

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        check_images(x, "Flip")
        check_divisible(x, "Flip", 1, 2)
        a, b = x.chunk(2, dim=1)
        return torch.cat([b, a], dim=1), no_log_det(x)

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.forward(y)
