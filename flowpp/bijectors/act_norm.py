"""Activation normalization: a learned scale and shift, set from the first batch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from . import Bijector
from .checks import check_broadcastable, check_images

GAIN_FLOOR = 1e-10
"""The released code cuts the gain off here; below, it is constant and gets no gradient."""

VARIANCE_OFFSET = 1e-8


class ActNorm(Bijector):
    """y = x * max(gain, 1e-10) + bias.

    Per activation (as Flow++'s released code) or per channel (as Glow), by the gain's shape.

    Args:
        gain: `(C, H, W)` or `(C, 1, 1)`.
        bias: the same shape.

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
        """The identity: gain 1, bias 0. Leave height and width at 1 for one gain a channel."""
        shape = (channels, height, width)
        return cls(torch.ones(shape), torch.zeros(shape))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        self._check(x)
        return x * self._gain() + self.bias, self._log_det(x)

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        self._check(y)
        return (y - self.bias) / self._gain(), -self._log_det(y)

    @torch.no_grad()
    def initialize(self, x: Tensor) -> None:
        """Set gain and bias so that this batch comes out with mean 0 and variance 1.

        Statistics run over the batch, and over those axes that share a gain.
        """
        self._check(x)
        axes = [0] + [axis + 1 for axis in (1, 2) if self.gain.shape[axis] == 1]
        variance, mean = torch.var_mean(x, dim=axes, correction=0, keepdim=True)
        gain = torch.rsqrt(variance + VARIANCE_OFFSET)[0]
        self.gain.copy_(gain)
        self.bias.copy_(-mean[0] * gain)

    def _gain(self) -> Tensor:
        return torch.clamp(self.gain, min=GAIN_FLOOR)

    def _log_det(self, x: Tensor) -> Tensor:
        sharing = x[0].numel() // self.gain.numel()
        return (sharing * torch.log(self._gain()).sum()).expand(x.shape[0])

    def _check(self, x: Tensor) -> None:
        check_images(x, "ActNorm")
        check_broadcastable(self.gain, x, "ActNorm", "gain and bias")
