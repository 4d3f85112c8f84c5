"""Activation normalization: a learned scale and shift, initialized from the first batch."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .bijector import Bijector
from .checks import check_broadcastable

GAIN_FLOOR = 1e-10
"""Smallest gain applied, as in the released code; below it the gradient is 0."""

VARIANCE_OFFSET = 1e-8


class ActNorm(Bijector):
    """y = x * max(gain, 1e-10) + bias.

    Per activation (as Flow++'s released code) or per channel (as Glow), by the gain's shape.

    Args:
        gain: `(C, H, W)` or `(C, 1, 1)`.
        bias: the same shape.

    Raises:
        ValueError: gain and bias of unequal shapes, or not broadcastable to the input's shape.

    Numerics: the log-determinant is one number for all examples, `sum log gain` times the number
    of positions that share a gain.

    Source: Kingma and Dhariwal 2018, section 3.1; Flow++ section 3.2.
    """

    def __init__(self, gain: Tensor, bias: Tensor) -> None:
        super().__init__()
        if gain.shape != bias.shape or gain.ndim != 3:
            raise ValueError(
                "ActNorm needs gain and bias of one shape (channels, height, width), "
                f"got {tuple(gain.shape)} and {tuple(bias.shape)}"
            )
        self.gain = nn.Parameter(gain)
        self.bias = nn.Parameter(bias)

    @classmethod
    def create(cls, channels: int, height: int = 1, width: int = 1) -> ActNorm:
        """Create the identity: gain 1, bias 0; without height and width, one gain per channel."""
        shape = (channels, height, width)
        return cls(torch.ones(shape), torch.zeros(shape))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return x * self._gain() + self.bias, self._log_det(x)

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return (y - self.bias) / self._gain(), -self._log_det(y)

    @torch.no_grad()
    def initialize(self, x: Tensor) -> None:
        """Set gain and bias such that the output for this batch has mean 0 and variance 1.

        Statistics are taken over the batch, and over the axes that share a gain.
        """
        self.check_input(x)
        axes = [0] + [axis + 1 for axis in (1, 2) if self.gain.shape[axis] == 1]
        variance, mean = torch.var_mean(x, dim=axes, correction=0, keepdim=True)
        gain = torch.rsqrt(variance + VARIANCE_OFFSET)[0]
        self.gain.copy_(gain)
        self.bias.copy_(-mean[0] * gain)

    def check_fields(self, x: Tensor, owner: str) -> None:
        check_broadcastable(self.gain, x.shape, owner, "gain and bias")

    def _gain(self) -> Tensor:
        return torch.clamp(self.gain, min=GAIN_FLOOR)

    def _log_det(self, x: Tensor) -> Tensor:
        positions_per_gain = math.prod(x.shape[1:]) // self.gain.numel()
        return (positions_per_gain * torch.log(self._gain()).sum()).expand(x.shape[0])
