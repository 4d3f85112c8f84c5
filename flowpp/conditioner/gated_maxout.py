"""Gated maxout: the paper's ablation of attention."""

from __future__ import annotations

from torch import Tensor, nn

from flowpp.kernels.layers import dropout, gated_sum

from .conv2d import BEFORE_GATE, Conv2d
from .dropout import check_dropout
from .position import add_position


class GatedMaxout(nn.Module):
    """x + gate(proj_out(dropout(max over 3 neighbouring channels of proj_in(x + position)))).

    It replaces attention in the paper's ablation, with the same number of parameters.

    Args:
        proj_in: F -> 3F, 1x1. The maximum of output channels 3f, 3f + 1, 3f + 2 is channel f.
        proj_out: F -> 2F, 1x1.
        dropout: rate, during training.

    Raises:
        ValueError: projected channels that are not a multiple of 3, dropout not in [0, 1), a
            position of another shape than (F, H, W).
    """

    def __init__(self, proj_in: Conv2d, proj_out: Conv2d, dropout: float = 0.0) -> None:
        super().__init__()
        check_dropout(self, dropout)
        if proj_in.weight.shape[0] % 3:
            raise ValueError(
                "GatedMaxout needs a multiple of 3 as number of projected channels, "
                f"got {proj_in.weight.shape[0]}"
            )
        self.proj_in = proj_in
        self.proj_out = proj_out
        self.dropout = dropout

    @classmethod
    def create(
        cls, filters: int, *, dropout: float = 0.0, weight_norm: bool = False
    ) -> GatedMaxout:
        """Create random weights."""
        return cls(
            Conv2d.create(filters, 3 * filters, weight_norm=weight_norm),
            Conv2d.create(filters, 2 * filters, weight_norm=weight_norm, init_scale=BEFORE_GATE),
            dropout,
        )

    def forward(self, x: Tensor, position: Tensor | None = None) -> Tensor:
        projected = self.proj_in(add_position(x, position, self))
        h = projected.unflatten(1, (-1, 3)).amax(2)
        h = dropout(h, self.dropout, training=self.training)
        return gated_sum(x, self.proj_out(h))
