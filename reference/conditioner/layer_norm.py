"""Layer normalization over channels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reference.bijectors.bijector import Array
from reference.bijectors.checks import check_images
from reference.bijectors.fields import set_field

LAYER_NORM_EPSILON = 1e-5


@dataclass(frozen=True, eq=False)
class LayerNorm:
    """(x - mean) / sqrt(var + 1e-5) * gain + bias, over the channels of each position.

    Attributes:
        gain: (F,).
        bias: (F,).

    Raises:
        ValueError: gain and bias that are not vectors of one length, or another number of
            channels.
    """

    gain: Array
    bias: Array

    def __post_init__(self) -> None:
        gain, bias = set_field(self, "gain", ndim=1), set_field(self, "bias", ndim=1)
        if gain.shape != bias.shape:
            raise ValueError(
                f"LayerNorm needs gain and bias of one shape, got {gain.shape} and {bias.shape}"
            )

    def __call__(self, x: Array) -> Array:
        """Normalize, (B, F, H, W) -> (B, F, H, W)."""
        x = check_images(x, self)
        if x.shape[1] != len(self.gain):
            raise ValueError(f"LayerNorm needs {len(self.gain)} channels, got {x.shape[1]}")
        centred = x - x.mean(axis=1, keepdims=True)
        normal = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + LAYER_NORM_EPSILON)
        return normal * self.gain[:, None, None] + self.bias[:, None, None]

    def initialize(self, x: Array) -> tuple[LayerNorm, Array]:
        """Return the layer itself, which has nothing to fit, and its output."""
        return self, self(x)
