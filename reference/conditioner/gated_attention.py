"""Gated multi-head self-attention over all positions."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from reference.bijectors.bijector import Array
from reference.conditioner.activation import gate
from reference.conditioner.conv2d import Conv2d
from reference.conditioner.dropout import Rng, check_dropout, dropout
from reference.conditioner.position import add_position


@dataclass(frozen=True, eq=False)
class GatedAttention:
    """x + gate(proj_out(dropout(softmax(q k^T / sqrt(d)) v))) for each head.

    q, k and v are the thirds of proj_in(x + position).

    Attributes:
        proj_in: F -> 3F, 1x1. Its output channels are q, k, v (slowest), then the head, then d.
        proj_out: F -> 2F, 1x1.
        heads: number of heads n, F = n * d.
        dropout: rate, on the merged heads (not on the attention weights).

    Raises:
        ValueError: heads that do not divide the filters, dropout not in [0, 1), a position of
            another shape than (F, H, W).
    """

    proj_in: Conv2d
    proj_out: Conv2d
    heads: int
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_dropout(self, self.dropout)
        if self.heads < 1:
            raise ValueError(f"GatedAttention needs at least 1 head, got {self.heads}")
        projected = self.proj_in.weight.shape[0]
        if projected % (3 * self.heads):
            raise ValueError(
                f"GatedAttention needs a multiple of {3 * self.heads} as number of projected "
                f"channels, got {projected}"
            )

    def __call__(
        self, x: Array, position: Array | None = None, *, rng: Rng | None = None
    ) -> Array:
        """Map (B, F, H, W) -> (B, F, H, W)."""
        merged = self._attention(self.proj_in(add_position(x, position, self)))
        return x + gate(self.proj_out(dropout(merged, self.dropout, rng)))

    def initialize(self, x: Array, position: Array | None = None) -> tuple[GatedAttention, Array]:
        """Fit proj_in, then proj_out."""
        proj_in, projected = self.proj_in.initialize(add_position(x, position, self))
        proj_out, h = self.proj_out.initialize(self._attention(projected))
        return dataclasses.replace(self, proj_in=proj_in, proj_out=proj_out), x + gate(h)

    def _attention(self, projected: Array) -> Array:
        """Attend within each head and merge the heads, (B, 3F, H, W) -> (B, F, H, W)."""
        batch, channels, height, width = projected.shape
        depth = channels // (3 * self.heads)
        q, k, v = np.moveaxis(
            projected.reshape(batch, 3, self.heads, depth, height * width), 1, 0
        )  # each (B, heads, depth, positions)
        scores = np.einsum("bndi,bndj->bnij", q, k) / np.sqrt(depth)
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights = weights / weights.sum(axis=-1, keepdims=True)
        merged = np.einsum("bnij,bndj->bndi", weights, v)
        return merged.reshape(batch, channels // 3, height, width)
