"""Layer normalization over channels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from flowpp.kernels.convolution import HALF
from flowpp.kernels.layers import layer_norm

LAYER_NORM_EPSILON = 1e-5


class LayerNorm(nn.Module):
    """(x - mean) / sqrt(var + 1e-5) * gain + bias, over the channels of each position.

    Args:
        gain: `(F,)`.
        bias: `(F,)`.

    Raises:
        ValueError: gain and bias that are not vectors of one length, or another number of
            channels.
    """

    def __init__(self, gain: Tensor, bias: Tensor) -> None:
        super().__init__()
        if gain.ndim != 1 or gain.shape != bias.shape:
            raise ValueError(
                "LayerNorm needs gain and bias of one shape (F,), "
                f"got {tuple(gain.shape)} and {tuple(bias.shape)}"
            )
        self.gain = nn.Parameter(gain)
        self.bias = nn.Parameter(bias)

    @classmethod
    def create(cls, filters: int) -> LayerNorm:
        """Create gain 1, bias 0."""
        return cls(torch.ones(filters), torch.zeros(filters))

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 4 or x.shape[1] != len(self.gain):
            raise ValueError(
                f"LayerNorm needs (batch, {len(self.gain)}, height, width), got {tuple(x.shape)}"
            )
        if x.dtype in HALF:
            gain, bias = self.gain.to(x.dtype), self.bias.to(x.dtype)
            return layer_norm(x, gain, bias, LAYER_NORM_EPSILON)
        return layer_norm(x, self.gain, self.bias, LAYER_NORM_EPSILON)
