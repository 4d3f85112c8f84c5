"""Split into the black and the white squares of a checkerboard."""

from __future__ import annotations

import torch
from torch import Tensor

from .bijector import Bijector
from .log_dets import no_log_det


class Checkerboard(Bijector):
    """(B, C, H, W) -> (B, 2C, H, W/2): squares with i + j even first, those with i + j odd last.

    In row i: y[c, i, j] = x[c, i, 2j + i % 2] and y[C + c, i, j] = x[c, i, 2j + 1 - i % 2].

    Raises:
        ValueError: an odd width (forward) or number of channels (inverse).

    Source: Dinh, Sohl-Dickstein and Bengio 2017, section 3.4; the paper's text, not its code.
    """

    divisors = {"width": 2}
    inverse_divisors = {"channels": 2}
    permutes = True

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        halves = _swap_in_odd_rows(x[..., 0::2], x[..., 1::2])
        return torch.cat(halves, dim=1), no_log_det(x)

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        columns = _swap_in_odd_rows(*y.chunk(2, dim=1))
        return torch.stack(columns, dim=-1).flatten(-2), no_log_det(y)


def _swap_in_odd_rows(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    odd = (torch.arange(a.shape[-2], device=a.device) % 2 == 1)[:, None]
    return torch.where(odd, b, a), torch.where(odd, a, b)
