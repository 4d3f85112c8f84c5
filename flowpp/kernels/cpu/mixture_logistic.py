"""The logistic mixture by the CPU kernels: values, gradients, roots."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from ..mixture_formulas import unpack
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


def forward(
    x: Tensor, parameters: Sequence[Tensor], floor: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute y = logit F(x) and log dy/dx.

    Args:
        x: Any shape S.
        parameters: Logits, means and log-scales, each of shape S + (K,); or one tensor of shape
            S + (P,), see `mixture_formulas.unpack`. Any strides.
        floor: Lower bound of the log-scales.

    Returns:
        y and log dy/dx, both contiguous and of shape S, and the P mod 3 leading numbers of packed
        parameters, of shape (P mod 3,) + S.
    """
    x = x.contiguous()
    y, log_derivative = torch.empty_like(x), torch.empty_like(x)
    read, layouts = _parameters(*unpack([p.to(x.dtype) for p in parameters]))
    _call("forward", x, read, layouts, floor, y, log_derivative)
    leading = x.new_empty((_passed(parameters), *x.shape))
    if len(leading):
        leading.copy_(parameters[0][..., : len(leading)].movedim(-1, 0))
    return y, log_derivative, leading


def backward(
    x: Tensor,
    parameters: Sequence[Tensor],
    floor: float,
    grad_y: Tensor,
    grad_l: Tensor,
    grad_leading: Tensor,
) -> list[Tensor]:
    """Compute the gradients of x and of the parameters.

    Args:
        x: As for `forward`.
        parameters: Likewise.
        floor: Likewise. Below it, and for NaN, the gradient of a log-scale is 0.
        grad_y: Gradient of y, of shape S.
        grad_l: Gradient of log dy/dx, of shape S.
        grad_leading: Gradient of the leading numbers, of shape (P mod 3,) + S.

    Returns:
        The gradient of x, and one for each of `parameters`, with the strides and dtype that
        `torch.empty_like` gives.
    """
    x, grad_y, grad_l = x.contiguous(), grad_y.contiguous(), grad_l.contiguous()
    read, layouts = _parameters(*unpack([p.to(x.dtype) for p in parameters]))
    gradients = [_writable(p, x.dtype) for p in parameters]
    written, targets = _parameters(*unpack(gradients))
    grad_x = torch.empty_like(x)
    _call("backward", x, read, layouts, floor, grad_y, grad_l, grad_x, *written, targets)
    if len(grad_leading):
        gradients[0][..., : len(grad_leading)] = grad_leading.movedim(0, -1)
    return [grad_x, *map(_like, gradients, parameters)]


def inverse(
    y: Tensor, parameters: Sequence[Tensor], floor: float, ulps: float, max_evaluations: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Solve logit F(x) = y by Newton's method, safeguarded by bisection.

    Args:
        y: Any shape S.
        parameters: As for `forward`.
        floor: Likewise.
        ulps: Accepted residual in units of eps * max(1, |y|).
        max_evaluations: Cap for each element.

    Returns:
        Root, residual, width of the bracket, and number of evaluations: max_evaluations + 1 where
        the cap was reached, -1 where the bracket holds no root. All of shape S.
    """
    y = y.contiguous()
    root, residual, width = (torch.empty_like(y) for _ in range(3))
    evaluations = torch.empty_like(y, dtype=torch.int64)
    read, layouts = _parameters(*unpack([p.to(y.dtype) for p in parameters]))
    _, scalar = DTYPES[y.dtype]
    _call(
        "inverse", y, read, layouts, floor, scalar(ulps), max_evaluations, root, residual, width,
        evaluations,
    )  # fmt: skip
    return root, residual, width, evaluations


def _call(
    name: str,
    x: Tensor,
    read: list[Tensor],
    layouts: ctypes.Array,
    floor: float,
    *arguments: object,
) -> None:
    suffix, scalar = DTYPES[x.dtype]
    threads = 1 if read[0].numel() < PARALLEL_FROM else None
    call(
        SOURCE, f"mixture_{name}_{suffix}", x, *read, layouts, x.numel(), read[0].shape[-1],
        scalar(floor), *arguments, threads=threads,
    )  # fmt: skip


def _writable(parameter: Tensor, dtype: torch.dtype) -> Tensor:
    """Return space for a gradient, with the strides of `empty_like` if these have a `Layout`."""
    gradient = torch.empty_like(parameter, dtype=dtype)
    return gradient if _layout(gradient) is not None else gradient.contiguous()


def _like(gradient: Tensor, parameter: Tensor) -> Tensor:
    """Return the gradient with the strides and dtype of `torch.empty_like(parameter)`."""
    if gradient.dtype is parameter.dtype and gradient.stride() == parameter.stride():
        return gradient
    result = torch.empty_like(parameter)
    same = gradient.dtype is result.dtype and gradient.stride() == result.stride()
    return gradient if same else result.copy_(gradient)


def _passed(parameters: Sequence[Tensor]) -> int:
    """Return the number of leading numbers of packed parameters."""
    return parameters[0].shape[-1] % 3 if len(parameters) == 1 else 0


def _parameters(*tensors: Tensor) -> tuple[list[Tensor], ctypes.Array]:
    """Return the tensors and their layouts; a tensor that has no `Layout` is copied."""
    tensors = tuple(t.resolve_neg() for t in tensors)
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
