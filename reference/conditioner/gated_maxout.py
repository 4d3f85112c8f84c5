"""Gated maxout: the paper's ablation of attention."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from reference.bijectors.bijector import Array
from reference.conditioner.activation import gate
from reference.conditioner.conv2d import Conv2d
from reference.conditioner.dropout import Rng, check_dropout, dropout
from reference.conditioner.position import add_position


@dataclass(frozen=True, eq=False)
class GatedMaxout:
    """x + gate(proj_out(dropout(max over 3 neighbouring channels of proj_in(x + position)))).

    It replaces attention in the paper's ablation, with the same number of parameters.

    Attributes:
        proj_in: F -> 3F, 1x1. The maximum of output channels 3f, 3f + 1, 3f + 2 is channel f.
        proj_out: F -> 2F, 1x1.
        dropout: rate.

    Raises:
        ValueError: projected channels that are not a multiple of 3, dropout not in [0, 1), a
            position of another shape than (F, H, W).
    """

    proj_in: Conv2d
    proj_out: Conv2d
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_dropout(self, self.dropout)
        projected = self.proj_in.weight.shape[0]
        if projected % 3:
            raise ValueError(
                "GatedMaxout needs a multiple of 3 as number of projected channels, "
                f"got {projected}"
            )

    def __call__(
        self, x: Array, position: Array | None = None, *, rng: Rng | None = None
    ) -> Array:
        """Map (B, F, H, W) -> (B, F, H, W)."""
        h = _maxout(self.proj_in(add_position(x, position, self)))
        return x + gate(self.proj_out(dropout(h, self.dropout, rng)))

    def initialize(self, x: Array, position: Array | None = None) -> tuple[GatedMaxout, Array]:
        """Fit proj_in, then proj_out."""
        proj_in, projected = self.proj_in.initialize(add_position(x, position, self))
        proj_out, h = self.proj_out.initialize(_maxout(projected))
        return dataclasses.replace(self, proj_in=proj_in, proj_out=proj_out), x + gate(h)


def _maxout(projected: Array) -> Array:
    batch, channels, height, width = projected.shape
    return projected.reshape(batch, channels // 3, 3, height, width).max(axis=2)
