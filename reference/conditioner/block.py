"""Block of a conditioner."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from reference.bijectors.bijector import Array
from reference.conditioner.dropout import Rng
from reference.conditioner.gated_attention import GatedAttention
from reference.conditioner.gated_conv import GatedConv
from reference.conditioner.gated_maxout import GatedMaxout
from reference.conditioner.layer_norm import LayerNorm


@dataclass(frozen=True, eq=False)
class Block:
    """conv, then norm, then attention, then attention_norm; all but conv are optional.

    Attributes:
        conv: a GatedConv.
        norm: LayerNorm after conv.
        attention: a GatedAttention or GatedMaxout.
        attention_norm: LayerNorm after attention.
    """

    conv: GatedConv
    norm: LayerNorm | None = None
    attention: GatedAttention | GatedMaxout | None = None
    attention_norm: LayerNorm | None = None

    def __call__(
        self,
        x: Array,
        context: Array | None = None,
        position: Array | None = None,
        *,
        rng: Rng | None = None,
    ) -> Array:
        """Map (B, F, H, W) -> (B, F, H, W)."""
        x = self.conv(x, context, rng=rng)
        if self.norm is not None:
            x = self.norm(x)
        if self.attention is not None:
            x = self.attention(x, position, rng=rng)
        if self.attention_norm is not None:
            x = self.attention_norm(x)
        return x

    def initialize(
        self, x: Array, context: Array | None = None, position: Array | None = None
    ) -> tuple[Block, Array]:
        """Fit the convolution, then the attention."""
        conv, x = self.conv.initialize(x, context)
        if self.norm is not None:
            x = self.norm(x)
        attention = self.attention
        if attention is not None:
            attention, x = attention.initialize(x, position)
        if self.attention_norm is not None:
            x = self.attention_norm(x)
        return dataclasses.replace(self, conv=conv, attention=attention), x
