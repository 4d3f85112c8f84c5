"""Convolutions for float32 on the CPU: 3x3 with fewer products, 1x1 as products; else torch.

3x3 is Winograd's F(2x2, 3x3), 16 multiplications where the definition has 36. The sums before and
after them are exact up to rounding, a few times the direct form's at most. Taken where it was
measured to be faster: images of even height and width, enough channels and tiles to fill the
products.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from flowpp.kernels import layers as conditioner
from flowpp.kernels.cpu.layers import call

FEWEST_CHANNELS = 32
"""On either side; below, the transforms cost more than they save."""
FEWEST_TILES = 16
"""In a batch, of 2x2 outputs each; below, the kernels' transforms weigh too much."""


def convolution(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Cross-correlation with zero padding that keeps height and width, plus bias.

    Args:
        x: `(B, in, H, W)`.
        weight: `(out, in, k, k)`, k odd.
        bias: `(out,)`.
    """
    if not conditioner.applies_to(x, weight, bias):
        return _plain(x, weight, bias)
    if weight.shape[2:] == (1, 1):
        return _pointwise(x, weight, bias)
    if _is_faster_by_winograd(x, weight):
        return _Winograd.apply(x.contiguous(), weight.contiguous(), bias.contiguous())
    return _plain(x, weight, bias)


def _plain(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    height, width = weight.shape[2:]
    return functional.conv2d(x, weight, bias, padding=(height // 2, width // 2))


def _pointwise(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """One product an image: with two threads 0.6 to 0.8 of the convolution's time, and back."""
    kernels = weight.flatten(1).expand(len(x), -1, -1)
    y = torch.baddbmm(bias[None, :, None], kernels, x.flatten(2))
    return y.unflatten(2, x.shape[2:])


def _is_faster_by_winograd(x: Tensor, weight: Tensor) -> bool:
    out, channels, *kernel = weight.shape
    batch, _, height, width = x.shape
    return (
        kernel == [3, 3]
        and height % 2 == 0
        and width % 2 == 0
        and min(out, channels) >= FEWEST_CHANNELS
        and batch * height * width >= 4 * FEWEST_TILES
    )


class _Winograd(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight, bias)
        batch, channels, height, width = x.shape
        out = len(weight)
        y = x.new_empty(batch, out, height, width)
        call(
            "winograd_forward", x, weight, bias, batch, channels, out, height, width,
            9 * channels, 9, 0, y,
        )  # fmt: skip
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        x, weight, bias = ctx.saved_tensors
        if torch.is_grad_enabled():
            return conditioner.through_formula(_plain, (x, weight, bias), grad)
        grad = grad.contiguous()
        batch, channels, height, width = x.shape
        out = len(weight)
        grad_x = grad_weight = grad_bias = None
        if ctx.needs_input_grad[0]:
            grad_x = torch.empty_like(x)
            call(
                "winograd_forward", grad, weight, 0, batch, out, channels, height, width,
                9, 9 * channels, 1, grad_x,
            )  # fmt: skip
        if ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
            grad_weight, grad_bias = torch.empty_like(weight), torch.empty_like(bias)
            call(
                "winograd_weight_gradient", x, grad, batch, channels, out, height, width,
                grad_weight, grad_bias,
            )  # fmt: skip
        return grad_x, grad_weight, grad_bias
