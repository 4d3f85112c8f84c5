"""Block of a conditioner."""

from __future__ import annotations

from torch import Tensor, nn

from .gated_attention import GatedAttention
from .gated_conv import GatedConv
from .gated_maxout import GatedMaxout
from .layer_norm import LayerNorm


class Block(nn.Module):
    """conv, then norm, then attention, then attention_norm; all but conv are optional.

    Args:
        conv: a GatedConv.
        norm: LayerNorm after conv.
        attention: a GatedAttention or GatedMaxout.
        attention_norm: LayerNorm after attention.
    """

    def __init__(
        self,
        conv: GatedConv,
        norm: LayerNorm | None = None,
        attention: GatedAttention | GatedMaxout | None = None,
        attention_norm: LayerNorm | None = None,
    ) -> None:
        super().__init__()
        self.conv = conv
        self.norm = norm
        self.attention = attention
        self.attention_norm = attention_norm

    def forward(
        self, x: Tensor, context: Tensor | None = None, position: Tensor | None = None
    ) -> Tensor:
        x = self.conv(x, context)
        if self.norm is not None:
            x = self.norm(x)
        if self.attention is not None:
            x = self.attention(x, position)
        if self.attention_norm is not None:
            x = self.attention_norm(x)
        return x
