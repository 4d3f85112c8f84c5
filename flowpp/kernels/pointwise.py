"""Grouped 1x1 convolution that never computes in less than float32.

With matrices W and images x it is y[g, i] = sum_j W[g, i, j] x[g, j] at every position. On CUDA
devices, and under autocast, TF32 and autocast are switched off for it, whatever their settings are
where it or its derivatives are computed; for torch.compile that is inside of an operator, which it
does not trace. Elsewhere it is torch's convolution.

It is linear in both arguments, and so is the gradient by W; the derivatives of each are written
with the two, to every order.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.library import custom_op
from torch.nn import functional

from ..runtime.precision import ieee_convolutions, tf32_switches
from .tracing import is_exporting


def pointwise(x: Tensor, weight: Tensor) -> Tensor:
    """Multiply each group of channels by its matrix at every position.

    Args:
        x: Images `(B, G*c, H, W)`.
        weight: Matrices `(G, c, c)`.
    """
    if not is_rounded(x) or is_exporting():
        return _convolution(x, weight)
    wide = torch.promote_types(x.dtype, torch.float32)
    return _product(x.to(wide), weight)


def is_rounded(x: Tensor) -> bool:
    """Return whether torch might round float32 products with x to fewer bits."""
    return x.is_cuda or (x.device.type == "cpu" and torch.is_autocast_enabled("cpu"))


@custom_op("flowpp::pointwise", mutates_args=())
def _pointwise(x: Tensor, weight: Tensor) -> Tensor:
    with ieee_convolutions():
        return _convolution(x, weight)


@custom_op("flowpp::pointwise_gradient", mutates_args=())
def _gradient(x: Tensor, grad: Tensor, groups: int) -> Tensor:
    """Compute the sum over batch and positions of grad[g, i] x[g, j]: `(G, c, c)`."""
    with ieee_convolutions():
        return _convolution_gradient(x, grad, groups)


def _no_autocast(x: Tensor) -> AbstractContextManager[object]:
    device = x.device.type
    enabled = device != "meta" and torch.is_autocast_enabled(device)
    return torch.autocast(device, enabled=False) if enabled else nullcontext()


def _convolution(x: Tensor, weight: Tensor) -> Tensor:
    groups, size, _ = weight.shape
    kernel = weight.reshape(groups * size, size, 1, 1)
    return functional.conv2d(x, kernel, groups=groups)


def _convolution_gradient(x: Tensor, grad: Tensor, groups: int) -> Tensor:
    if x.is_cuda and not tf32_switches()["matmul"]:
        return _sum_of_products(x, grad, groups)
    size = x.shape[1] // groups
    kernel = x.new_empty(groups * size, size, 1, 1)  # only its shape is used
    stride, padding, dilation, transposed = (1, 1), (0, 0), (1, 1), False
    _, gradient, _ = torch.ops.aten.convolution_backward(
        grad, x, kernel, None, stride, padding, dilation, transposed, padding, groups,
        [False, True, False],
    )  # fmt: skip
    return gradient.reshape(groups, size, size)


def _sum_of_products(x: Tensor, grad: Tensor, groups: int) -> Tensor:
    """Compute the same by a product for each image: cuDNN takes 51 us for 64 on an H100."""
    images = x.shape[0], groups, x.shape[1] // groups, math.prod(x.shape[2:])
    return (grad.reshape(images) @ x.reshape(images).mT).sum(0)


_pointwise.register_fake(_convolution)
_gradient.register_fake(_convolution_gradient)
for _device in ("cpu", "cuda"):
    _pointwise.register_autocast(_device, torch.float32)
    _gradient.register_autocast(_device, torch.float32)


def _product(x: Tensor, weight: Tensor) -> Tensor:
    # torch.compile refuses functions with forward-mode derivatives.
    function = _Pointwise if torch.compiler.is_compiling() else _ForwardPointwise
    return function.apply(x, weight)


def _product_gradient(x: Tensor, grad: Tensor, groups: int) -> Tensor:
    function = _Gradient if torch.compiler.is_compiling() else _ForwardGradient
    return function.apply(x, grad, groups)


class _Pointwise(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, weight: Tensor) -> Tensor:
        if torch.compiler.is_compiling():
            return _pointwise(x, weight)
        with ieee_convolutions(), _no_autocast(x):
            return _convolution(x, weight)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        grad_x, grad_weight = ctx.needs_input_grad
        return (
            _product(grad, weight.mT) if grad_x else None,
            _product_gradient(x, grad, len(weight)) if grad_weight else None,
        )

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], x: Tensor, weight: Tensor) -> Any:
        # A batch of arguments becomes more groups.
        weights = _batch_first(weight, in_dims[1], info.batch_size).flatten(0, 1)
        y = _product(_into_channels(x, in_dims[0], info.batch_size), weights)
        return y.unflatten(1, (info.batch_size, -1)), 1


class _Gradient(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, grad: Tensor, groups: int) -> Tensor:
        if torch.compiler.is_compiling():
            return _gradient(x, grad, groups)
        with ieee_convolutions(), _no_autocast(x):
            return _convolution_gradient(x, grad, groups)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])
        ctx.save_for_forward(*inputs[:2])
        ctx.groups = inputs[2]

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Any:
        x, grad = ctx.saved_tensors
        needs_x, needs_grad, _ = ctx.needs_input_grad
        return (
            _product(grad, grad_output.mT) if needs_x else None,
            _product(x, grad_output) if needs_grad else None,
            None,
        )

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], x: Tensor, grad: Tensor, groups: int
    ) -> Any:
        count = info.batch_size
        x, grad = _into_channels(x, in_dims[0], count), _into_channels(grad, in_dims[1], count)
        return _product_gradient(x, grad, count * groups).unflatten(0, (count, groups)), 0


class _ForwardPointwise(_Pointwise):
    @staticmethod
    def jvp(ctx: Any, tangent_x: Tensor | None, tangent_weight: Tensor | None) -> Any:
        x, weight = ctx.saved_tensors
        by_x = 0 if tangent_x is None else _product(tangent_x, weight)
        return by_x if tangent_weight is None else by_x + _product(x, tangent_weight)


class _ForwardGradient(_Gradient):
    @staticmethod
    def jvp(ctx: Any, tangent_x: Tensor | None, tangent_grad: Tensor | None, _: None) -> Any:
        x, grad = ctx.saved_tensors
        by_x = 0 if tangent_x is None else _product_gradient(tangent_x, grad, ctx.groups)
        if tangent_grad is None:
            return by_x
        return by_x + _product_gradient(x, tangent_grad, ctx.groups)


def _batch_first(tensor: Tensor, dim: int | None, count: int) -> Tensor:
    """Return a tensor with the axis of vmap first."""
    return tensor.expand(count, *tensor.shape) if dim is None else tensor.movedim(dim, 0)


def _into_channels(images: Tensor, dim: int | None, count: int) -> Tensor:
    """Return images `(B, count*C, H, W)`: the axis of vmap joins the channels."""
    return _batch_first(images, dim, count).movedim(0, 1).flatten(1, 2)
