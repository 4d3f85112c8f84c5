"""Split into the black and the white squares of a checkerboard."""

from __future__ import annotations

import torch
from torch import Tensor

from . import Bijector
from .checks import check_divisible, check_images, no_log_det


class Checkerboard(Bijector):
    """(B, C, H, W) -> (B, 2C, H, W/2): squares with i + j even first, those with i + j odd last.

    Column j' of a half holds, in row i, image column 2j' + (i mod 2) for the even squares and
    2j' + 1 - (i mod 2) for the odd ones: in odd rows the two neighbours of a pair change places.

    Source: Dinh, Sohl-Dickstein and Bengio 2017, section 3.4; the paper's text, not its code.
    """

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        check_images(x, "Checkerboard")
        check_divisible(x, "Checkerboard", 3, 2)
        halves = _exchange_in_odd_rows(x[..., 0::2], x[..., 1::2])
        return torch.cat(halves, dim=1), no_log_det(x)

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        check_images(y, "Checkerboard inverse")
        check_divisible(y, "Checkerboard inverse", 1, 2)
        columns = _exchange_in_odd_rows(*y.chunk(2, dim=1))
        return torch.stack(columns, dim=-1).flatten(-2), no_log_det(y)


def _exchange_in_odd_rows(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    odd = (torch.arange(a.shape[-2], device=a.device) % 2 == 1)[:, None]
    return torch.where(odd, b, a), torch.where(odd, a, b)
