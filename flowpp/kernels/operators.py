"""The compiled kernels as torch operators, so that torch.compile and export see them whole."""

from __future__ import annotations

from types import ModuleType

import torch
from torch import Tensor

from flowpp.kernels.cpu import mixture_logistic as host
from flowpp.kernels.cuda import launch as cuda


def _kernels(x: Tensor) -> ModuleType:
    return cuda if x.is_cuda else host


@torch.library.custom_op("flowpp::mixture_forward", mutates_args=())
def mixture_forward(
    x: Tensor, logits: Tensor, means: Tensor, log_scales: Tensor
) -> tuple[Tensor, Tensor]:
    """(y, log dy/dx) by the compiled kernels of x's device."""
    return _kernels(x).forward(x, logits, means, log_scales)


@torch.library.custom_op("flowpp::mixture_backward", mutates_args=())
def mixture_backward(
    x: Tensor, logits: Tensor, means: Tensor, log_scales: Tensor, grad_y: Tensor, grad_l: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x, logits, means and log_scales by the compiled kernels of x's device."""
    return _kernels(x).backward(x, logits, means, log_scales, grad_y, grad_l)


@torch.library.custom_op("flowpp::mixture_inverse", mutates_args=())
def mixture_inverse(
    y: Tensor,
    logits: Tensor,
    means: Tensor,
    log_scales: Tensor,
    ulps: float,
    max_evaluations: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Root, residual, width and evaluations by the compiled kernels of y's device."""
    return _kernels(y).inverse(y, logits, means, log_scales, ulps, max_evaluations)


@mixture_forward.register_fake
def _(x, logits, means, log_scales):
    return tuple(torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(2))


@mixture_backward.register_fake
def _(x, logits, means, log_scales, grad_y, grad_l):
    parameters = (torch.empty_like(p) for p in (logits, means, log_scales))
    return torch.empty_like(x, memory_format=torch.contiguous_format), *parameters


@mixture_inverse.register_fake
def _(y, logits, means, log_scales, ulps, max_evaluations):
    contiguous = torch.contiguous_format
    roots = (torch.empty_like(y, memory_format=contiguous) for _ in range(3))
    return *roots, torch.empty_like(y, dtype=torch.int64, memory_format=contiguous)
