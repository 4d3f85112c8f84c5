"""Convolutions: 3x3 by Winograd's F(2x2, 3x3) and 1x1 by matrix products on the CPU, else torch.

F(2x2, 3x3) takes 16 multiplications where the definition takes 36. Its additional sums round: the
error is at most a few times that of the direct form. It is used where it was measured to be
faster: for images of even height and width with enough channels and tiles.

A NaN or an infinity makes the same outputs non-finite as in the direct form, but some are NaN
where that gives an infinity; in the gradient of the weights it may reach all nine taps.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from .backend import backend_for
from .cpu.launch import call
from .double_backward import formula_gradients, needs_formula

SOURCE = "convolution.cpp"
MIN_CHANNELS = 32
"""Smallest number of input and of output channels for which Winograd's form is faster."""
MIN_TILES = 16
"""Smallest number of 2x2 output tiles in a batch for which it is faster."""
HALF = (torch.bfloat16, torch.float16)
"""Dtypes of the input in which a layer also computes when its own parameters are wider."""
CHANNEL_MULTIPLE = 8
"""cuDNN computes in half precision on numbers of channels that this divides."""


def convolution(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Compute the cross-correlation with zero padding that keeps height and width, plus bias.

    Args:
        x: Images `(B, in, H, W)`.
        weight: Kernels `(out, in, k, k)`, k odd.
        bias: Offsets `(out,)`.
    """
    if backend_for(x, weight, bias, kernel="convolution") == "torch":
        return _plain(x, weight, bias)
    if weight.shape[2:] == (1, 1):
        return _pointwise(x, weight, bias)
    if _is_faster_by_winograd(x, weight):
        return _Winograd.apply(x.contiguous(), weight.contiguous(), bias.contiguous())
    return _plain(x, weight, bias)


def _plain(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    if x.is_cuda and x.dtype in HALF and len(weight) % CHANNEL_MULTIPLE:
        return _with_more_channels(x, weight, bias)
    height, width = weight.shape[2:]
    return functional.conv2d(x, weight, bias, padding=(height // 2, width // 2))


def _with_more_channels(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Compute further output channels up to a multiple of 8, and leave them out.

    cuDNN does so too, but by copies of the output and, for each of its gradients, of the
    output's gradient. The values are the same.
    """
    height, width = weight.shape[2:]
    more = -len(weight) % CHANNEL_MULTIPLE
    wide = functional.pad(weight, (0, 0, 0, 0, 0, 0, 0, more))
    y = functional.conv2d(x, wide, padding=(height // 2, width // 2))
    return _FirstPlusBias.apply(y, bias)


class _FirstPlusBias(torch.autograd.Function):
    """y + bias, for as many channels as the bias has."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, bias: Tensor) -> Tensor:
        ctx.more = y.shape[1] - len(bias)
        return y[:, : len(bias)] + bias[:, None, None]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        # Padding keeps the memory layout, which the gradient of a slice does not.
        return functional.pad(grad, (0, 0, 0, 0, 0, ctx.more)), grad.sum((0, 2, 3))


def _pointwise(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Compute one matrix product per image, in 0.6 to 0.8 of the time of torch's convolution."""
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
        and min(out, channels) >= MIN_CHANNELS
        and batch * height * width >= 4 * MIN_TILES
    )


class _Winograd(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight, bias)
        batch, channels, height, width = x.shape
        out = len(weight)
        y = x.new_empty(batch, out, height, width)
        call(
            SOURCE, "winograd_forward", x, weight, bias, batch, channels, out, height, width,
            9 * channels, 9, 0, y,
        )  # fmt: skip
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        x, weight, bias = ctx.saved_tensors
        if needs_formula(grad):
            return formula_gradients(_plain, (x, weight, bias), grad)
        grad = grad.contiguous()
        batch, channels, height, width = x.shape
        out = len(weight)
        grad_x = grad_weight = grad_bias = None
        if ctx.needs_input_grad[0]:
            grad_x = torch.empty_like(x)
            call(
                SOURCE, "winograd_forward", grad, weight, 0, batch, out, channels, height, width,
                9, 9 * channels, 1, grad_x,
            )  # fmt: skip
        if ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
            grad_weight, grad_bias = torch.empty_like(weight), torch.empty_like(bias)
            call(
                SOURCE, "winograd_weight_gradient", x, grad, batch, channels, out, height, width,
                grad_weight, grad_bias,
            )  # fmt: skip
        return grad_x, grad_weight, grad_bias
