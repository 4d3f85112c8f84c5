"""Gated convolution."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from reference.bijectors.bijector import Array
from reference.conditioner.activation import concat_elu, gate
from reference.conditioner.conv2d import Conv2d
from reference.conditioner.dropout import Rng, check_dropout, dropout


@dataclass(frozen=True, eq=False)
class GatedConv:
    """x + gate(conv_out(dropout(e(conv_in(e(x)) + conv_context(e(c)))))), e = concat_elu.

    Attributes:
        conv_in: 2F -> F, 3x3.
        conv_out: 2F -> 2F; 1x1 inside couplings, 3x3 in the context network.
        conv_context: 2C -> F, 1x1, for a context of C channels; None without context.
        dropout: rate.

    Raises:
        ValueError: a context without `conv_context` or vice versa; dropout not in [0, 1).
    """

    conv_in: Conv2d
    conv_out: Conv2d
    conv_context: Conv2d | None = None
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_dropout(self, self.dropout)

    def __call__(self, x: Array, context: Array | None = None, *, rng: Rng | None = None) -> Array:
        """Map (B, F, H, W) -> (B, F, H, W)."""
        self._check_context(context)
        h = self.conv_in(concat_elu(x))
        if self.conv_context is not None and context is not None:
            h = h + self.conv_context(concat_elu(context))
        return x + gate(self.conv_out(dropout(concat_elu(h), self.dropout, rng)))

    def initialize(self, x: Array, context: Array | None = None) -> tuple[GatedConv, Array]:
        """Fit the three convolutions in the order of the formula."""
        self._check_context(context)
        conv_in, h = self.conv_in.initialize(concat_elu(x))
        conv_context = self.conv_context
        if conv_context is not None and context is not None:
            conv_context, from_context = conv_context.initialize(concat_elu(context))
            h = h + from_context
        conv_out, h = self.conv_out.initialize(concat_elu(h))
        fitted = dataclasses.replace(
            self, conv_in=conv_in, conv_out=conv_out, conv_context=conv_context
        )
        return fitted, x + gate(h)

    def _check_context(self, context: Array | None) -> None:
        if (context is None) != (self.conv_context is None):
            needed = "no context" if self.conv_context is None else "a context"
            got = "none" if context is None else f"one of shape {np.shape(context)}"
            raise ValueError(f"GatedConv needs {needed}, got {got}")
