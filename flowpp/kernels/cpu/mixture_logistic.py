"""The logistic mixture by the CPU kernels: values, gradients, roots."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from .launch import call

SOURCE = "mixture_logistic.cpp"
DTYPES = {torch.float32: ("float32", ctypes.c_float), torch.float64: ("float64", ctypes.c_double)}
"""Suffix of the kernels' names, and type of a scalar argument."""
PARALLEL_FROM = 1 << 14
"""Smallest number of parameters for which a second thread saves time."""


class Layout(ctypes.Structure):
    """Position of parameter k of element n in memory; see mixture_logistic.cpp."""

    _fields_ = [
        ("inner_size", ctypes.c_long),
        ("outer_stride", ctypes.c_long),
        ("inner_stride", ctypes.c_long),
        ("component_stride", ctypes.c_long),
    ]


def forward(x: Tensor, logits: Tensor, means: Tensor, log_scales: Tensor) -> tuple[Tensor, Tensor]:
    """Compute y = logit F(x) and log dy/dx.

    Args:
        x: Any shape S.
        logits: Shape S + (K,), any strides.
        means: Likewise.
        log_scales: Likewise.

    Returns:
        y and log dy/dx, both contiguous and of shape S.
    """
    x = x.contiguous()
    y, log_derivative = torch.empty_like(x), torch.empty_like(x)
    parameters, layouts = _parameters(logits, means, log_scales)
    count = logits.shape[-1]
    _call("forward", x, *parameters, layouts, x.numel(), count, y, log_derivative)
    return y, log_derivative


def backward(
    x: Tensor, logits: Tensor, means: Tensor, log_scales: Tensor, grad_y: Tensor, grad_l: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Compute the gradients of x, logits, means and log_scales.

    Args:
        x: As for `forward`.
        logits: Likewise.
        means: Likewise.
        log_scales: Likewise.
        grad_y: Gradient of y, of shape S.
        grad_l: Gradient of log dy/dx, of shape S.

    Returns:
        The four gradients; those of the parameters with the parameters' own strides.
    """
    x, grad_y, grad_l = x.contiguous(), grad_y.contiguous(), grad_l.contiguous()
    grad_x = torch.empty_like(x)
    parameters, layouts = _parameters(logits, means, log_scales)
    gradients, gradient_layouts = _parameters(*map(torch.empty_like, parameters))
    _call(
        "backward", x, *parameters, layouts, x.numel(), logits.shape[-1], grad_y, grad_l, grad_x,
        *gradients, gradient_layouts,
    )  # fmt: skip
    return grad_x, gradients[0], gradients[1], gradients[2]


def inverse(
    y: Tensor,
    logits: Tensor,
    means: Tensor,
    log_scales: Tensor,
    ulps: float,
    max_evaluations: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Solve logit F(x) = y by Newton's method, safeguarded by bisection.

    Args:
        y: Any shape S.
        logits: Shape S + (K,), any strides.
        means: Likewise.
        log_scales: Likewise.
        ulps: Accepted residual in units of eps * max(1, |y|).
        max_evaluations: Cap for each element.

    Returns:
        Root, residual, width of the bracket, and number of evaluations: max_evaluations + 1 where
        the cap was reached, -1 where the bracket holds no root. All of shape S.
    """
    y = y.contiguous()
    root, residual, width = (torch.empty_like(y) for _ in range(3))
    evaluations = torch.empty_like(y, dtype=torch.int64)
    parameters, layouts = _parameters(logits, means, log_scales)
    _, scalar = DTYPES[y.dtype]
    _call(
        "inverse", y, *parameters, layouts, y.numel(), logits.shape[-1], scalar(ulps),
        max_evaluations, root, residual, width, evaluations,
    )  # fmt: skip
    return root, residual, width, evaluations


def _call(name: str, x: Tensor, logits: Tensor, *arguments: object) -> None:
    suffix, _ = DTYPES[x.dtype]
    threads = 1 if logits.numel() < PARALLEL_FROM else None
    call(SOURCE, f"mixture_{name}_{suffix}", x, logits, *arguments, threads=threads)


def _parameters(*tensors: Tensor) -> tuple[list[Tensor], ctypes.Array]:
    """Return the tensors and their layouts; a tensor that has no `Layout` is copied."""
    walkable = [t if _layout(t) is not None else t.contiguous() for t in tensors]
    layouts = [layout for t in walkable if (layout := _layout(t)) is not None]
    return walkable, (Layout * len(walkable))(*layouts)


def _layout(parameter: Tensor) -> Layout | None:
    """Merge the axes of S into two of a constant stride each; None if that is impossible."""
    shape, strides = parameter.shape[:-1], parameter.stride()[:-1]
    inner_size, inner_stride, outer_stride = 1, 0, 0
    outer_size = 1
    for size, stride in zip(reversed(shape), reversed(strides), strict=True):
        if size == 1:
            continue
        if inner_size == 1:
            inner_size, inner_stride = size, stride
        elif outer_size == 1 and stride == inner_size * inner_stride:
            inner_size *= size
        elif outer_size == 1:
            outer_size, outer_stride = size, stride
        elif stride == outer_size * outer_stride:
            outer_size *= size
        else:
            return None
    return Layout(inner_size, outer_stride, inner_stride, parameter.stride(-1))
