"""Gated multi-head self-attention over all positions."""

from __future__ import annotations

from torch import Tensor, nn

from flowpp.kernels.attention import attention
from flowpp.kernels.layers import dropout, gated_sum

from .conv2d import BEFORE_GATE, Conv2d
from .dropout import check_dropout
from .position import add_position


class GatedAttention(nn.Module):
    """x + gate(proj_out(dropout(softmax(q k^T / sqrt(d)) v))) for each head.

    q, k and v are the thirds of proj_in(x + position).

    Args:
        proj_in: F -> 3F, 1x1. Its output channels are q, k, v (slowest), then the head, then d.
        proj_out: F -> 2F, 1x1.
        heads: number of heads n, F = n * d.
        dropout: rate, during training, on the merged heads (not on the attention weights).

    Raises:
        ValueError: heads that do not divide the filters, dropout not in [0, 1), a position of
            another shape than (F, H, W).
    """

    def __init__(
        self, proj_in: Conv2d, proj_out: Conv2d, heads: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        check_dropout(self, dropout)
        filters = proj_in.weight.shape[1]
        if heads < 1 or filters % heads:
            raise ValueError(
                f"GatedAttention needs heads that divide {filters} filters, got {heads}"
            )
        self.proj_in = proj_in
        self.proj_out = proj_out
        self.heads = heads
        self.dropout = dropout

    @classmethod
    def create(
        cls, filters: int, heads: int, *, dropout: float = 0.0, weight_norm: bool = False
    ) -> GatedAttention:
        """Create random weights."""
        return cls(
            Conv2d.create(filters, 3 * filters, weight_norm=weight_norm),
            Conv2d.create(filters, 2 * filters, weight_norm=weight_norm, init_scale=BEFORE_GATE),
            heads,
            dropout,
        )

    def forward(self, x: Tensor, position: Tensor | None = None) -> Tensor:
        projected = self.proj_in(add_position(x, position, self))
        merged = dropout(attention(projected, self.heads), self.dropout, training=self.training)
        return gated_sum(x, self.proj_out(merged))
