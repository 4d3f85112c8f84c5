"""Exchange of the channel halves."""

from __future__ import annotations

import torch
from torch import Tensor

from .bijector import Bijector
from .log_dets import no_log_det


class Flip(Bijector):
    """(a, b) -> (b, a): swaps the channel halves, so that the next coupling maps the other half.

    Its own inverse.

    Raises:
        ValueError: an odd number of channels.
    """

    divisors = inverse_divisors = {"channels": 2}
    permutes = True

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        a, b = x.chunk(2, dim=1)
        return torch.cat([b, a], dim=1), no_log_det(x)

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.forward(y)
