"""Convolution with optional weight normalization."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from flowpp.kernels.convolution import HALF, convolution

KERNEL_DEVIATION = 0.05
SQUARED_NORM_FLOOR = 1e-12
VARIANCE_OFFSET = 1e-8
BEFORE_GATE = 0.1
"""Initial output scale of layers before a gate and of a coupling's last layer."""


def use_channels_last(model: nn.Module) -> None:
    """Store the kernels of convolutions as CUDA's libraries read them: input channels innermost.

    Otherwise each convolution of a network in channels last, as they are on CUDA devices, copies
    its kernel first. 1x1 kernels are the same in both layouts.
    """
    for layer in model.modules():
        if isinstance(layer, Conv2d) and layer.weight[0, 0].numel() > 1:
            layer.weight.data = layer.weight.data.contiguous(memory_format=torch.channels_last)


class Conv2d(nn.Module):
    """Cross-correlation with zero padding that keeps height and width, and a bias.

    Args:
        weight: `(out, in, k, k)`, k odd.
        bias: `(out,)`.
        gain: `(out,)` enables weight normalization: the kernel is gain * weight / ||weight||, the
            norm taken for each output channel, its square at least 1e-12.
        init_scale: standard deviation of the output after data-dependent initialization.
        init_mean: `(out,)`, its mean after data-dependent initialization; None for 0.

    Raises:
        ValueError: inconsistent shapes, an even kernel, a wrong number of channels.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor,
        gain: Tensor | None = None,
        init_scale: float = 1.0,
        init_mean: Tensor | None = None,
    ) -> None:
        super().__init__()
        if weight.ndim != 4 or weight.shape[2] % 2 == 0 or weight.shape[3] % 2 == 0:
            raise ValueError(
                f"Conv2d needs a weight (out, in, k, k) with k odd, got {tuple(weight.shape)}"
            )
        for name, vector in (("bias", bias), ("gain", gain), ("init_mean", init_mean)):
            if vector is not None and vector.shape != weight.shape[:1]:
                raise ValueError(
                    f"Conv2d needs {name} of shape ({weight.shape[0]},), got {tuple(vector.shape)}"
                )
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(bias)
        self.gain = None if gain is None else nn.Parameter(gain)
        self.init_scale = init_scale
        self.init_mean = init_mean

    @classmethod
    def create(
        cls,
        channels: int,
        out: int,
        kernel: int = 1,
        *,
        weight_norm: bool = False,
        init_scale: float = 1.0,
        init_mean: Tensor | None = None,
    ) -> Conv2d:
        """Create a Gaussian kernel of deviation 0.05, bias 0, gain 1."""
        weight = KERNEL_DEVIATION * torch.randn(out, channels, kernel, kernel)
        gain = torch.ones(out) if weight_norm else None
        return cls(weight, torch.zeros(out), gain, init_scale, init_mean)

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 4 or x.shape[1] != self.weight.shape[1]:
            raise ValueError(
                f"Conv2d needs (batch, {self.weight.shape[1]}, height, width), "
                f"got {tuple(x.shape)}"
            )
        if x.dtype in HALF:
            return convolution(x, self.kernel().to(x.dtype), self.bias.to(x.dtype))
        return convolution(x, self.kernel(), self.bias)

    def kernel(self) -> Tensor:
        """Return the kernel that is applied: the weight, or its normalized form."""
        if self.gain is None:
            return self.weight
        squared = self.weight.square().sum((1, 2, 3)).clamp(min=SQUARED_NORM_FLOOR)
        return self.weight * (self.gain * torch.rsqrt(squared))[:, None, None, None]

    @torch.no_grad()
    def initialize(self, x: Tensor) -> None:
        """Rescale such that the output for this batch has the initial mean and deviation."""
        self.bias.zero_()
        y = self.forward(x)
        # Half precision is too coarse for its own statistics.
        y = y.to(torch.promote_types(y.dtype, torch.float32))
        variance, mean = torch.var_mean(y, dim=(0, 2, 3), correction=0)
        scale = self.init_scale * torch.rsqrt(variance + VARIANCE_OFFSET)
        if self.gain is None:
            self.weight.mul_(scale[:, None, None, None])
        else:
            self.gain.mul_(scale)
        self.bias.copy_(-mean * scale)
        if self.init_mean is not None:
            self.bias.add_(self.init_mean.to(self.bias))
        # Torch's autocast keeps half-precision copies of the weights that were just changed.
        torch.clear_autocast_cache()

    def extra_repr(self) -> str:
        out, channels, height, width = self.weight.shape
        return f"{channels} -> {out}, {height}x{width}, weight_norm={self.gain is not None}"
