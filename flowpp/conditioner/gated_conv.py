"""Gated convolution."""

from __future__ import annotations

from torch import Tensor, nn

from flowpp.kernels.layers import concat_elu, concat_elu_dropout, gated_sum

from .conv2d import BEFORE_GATE, Conv2d
from .dropout import check_dropout


class GatedConv(nn.Module):
    """x + gate(conv_out(dropout(e(conv_in(e(x)) + conv_context(e(c)))))), e = concat_elu.

    Args:
        conv_in: 2F -> F, 3x3.
        conv_out: 2F -> 2F; 1x1 inside couplings, 3x3 in the context network.
        conv_context: 2C -> F, 1x1, for a context of C channels; None without context.
        dropout: rate, during training.

    Raises:
        ValueError: a context without `conv_context` or vice versa; dropout not in [0, 1).
    """

    def __init__(
        self,
        conv_in: Conv2d,
        conv_out: Conv2d,
        conv_context: Conv2d | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_dropout(self, dropout)
        self.conv_in = conv_in
        self.conv_out = conv_out
        self.conv_context = conv_context
        self.dropout = dropout

    @classmethod
    def create(
        cls,
        filters: int,
        *,
        kernel_out: int = 1,
        context: int | None = None,
        dropout: float = 0.0,
        weight_norm: bool = False,
    ) -> GatedConv:
        """Create random weights; `context` is the number of context channels."""
        return cls(
            Conv2d.create(2 * filters, filters, 3, weight_norm=weight_norm),
            Conv2d.create(
                2 * filters,
                2 * filters,
                kernel_out,
                weight_norm=weight_norm,
                init_scale=BEFORE_GATE,
            ),
            None
            if context is None
            else Conv2d.create(2 * context, filters, weight_norm=weight_norm),
            dropout,
        )

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        self.check_context(context)
        h = self.conv_in(concat_elu(x))
        if context is not None and self.conv_context is not None:
            h = h + self.conv_context(concat_elu(context))
        h = concat_elu_dropout(h, self.dropout, training=self.training)
        return gated_sum(x, self.conv_out(h))

    def check_context(self, context: Tensor | None) -> None:
        """Raise ValueError for a context without `conv_context` or vice versa."""
        if (context is None) != (self.conv_context is None):
            needed = "no context" if self.conv_context is None else "a context"
            got = "none" if context is None else f"one of shape {tuple(context.shape)}"
            raise ValueError(f"GatedConv needs {needed}, got {got}")
