"""Logit of a logistic mixture's CDF: value, log-derivative, inverse, and all their gradients.

The operators are computed by the backend's kernels (`cpu/`, `cuda/`) or by torch's operations
(`mixture_formulas`, which states the formulas). Second derivatives go through the latter.

The path from a training step: `Coupling.forward`, the family's `transform`,
`bijectors.mixture_logistic`, `logit_cdf`, the operator `mixture_forward`, and the launch in
`cpu/mixture_logistic.py` or `cuda/launch.py`.
"""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any, Literal

import torch
from torch import Tensor
from torch.library import custom_op

from ..root_finding import MAX_EVALUATIONS, Root, bisection, check_finished, find_root
from .backend import backend_for
from .cpu import mixture_logistic as cpu
from .cuda import launch as cuda
from .mixture_formulas import Partials, bracket, evaluate

Parameters = tuple[Tensor, Tensor, Tensor]

# The compiled kernels as torch operators, opaque to torch.compile and torch.export.

mixture_forward = custom_op(
    "flowpp::mixture_forward", cpu.forward, mutates_args=(), device_types="cpu"
)
mixture_backward = custom_op(
    "flowpp::mixture_backward", cpu.backward, mutates_args=(), device_types="cpu"
)
mixture_inverse = custom_op(
    "flowpp::mixture_inverse", cpu.inverse, mutates_args=(), device_types="cpu"
)
mixture_forward.register_kernel("cuda", cuda.forward)
mixture_backward.register_kernel("cuda", cuda.backward)
mixture_inverse.register_kernel("cuda", cuda.inverse)


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


class _LogitCdf(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, logits: Tensor, means: Tensor, log_scales: Tensor) -> Any:
        ctx.save_for_backward(x, logits, means, log_scales)
        if backend_for(x) == "torch":
            return evaluate(x, logits, means, log_scales)
        return mixture_forward(x, logits, means, log_scales)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor, grad_l: Tensor) -> Any:
        x, logits, means, log_scales = ctx.saved_tensors
        # A second derivative needs a graph, which the compiled kernels do not record.
        if not torch.is_grad_enabled() and backend_for(x) != "torch":
            return mixture_backward(x, logits, means, log_scales, grad_y, grad_l)
        return Partials(x, logits, means, log_scales).gradients(grad_y, grad_l)


class _InverseLogitCdf(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor, logits: Tensor, means: Tensor, log_scales: Tensor) -> Any:
        x = solve_with_certificate(y, logits, means, log_scales).root
        ctx.save_for_backward(x, logits, means, log_scales)
        return x

    @staticmethod
    def backward(ctx: Any, grad_x: Tensor) -> Any:
        # x is an output, so a second derivative also follows its dependence on y and parameters.
        x, logits, means, log_scales = ctx.saved_tensors
        partials = Partials(x, logits, means, log_scales)
        _, log_derivative = logit_cdf(x, logits, means, log_scales)
        return partials.inverse_gradients(grad_x, log_derivative)


def logit_cdf(
    x: Tensor, logits: Tensor, means: Tensor, log_scales: Tensor
) -> tuple[Tensor, Tensor]:
    """Compute y = logit F(x) and log dy/dx, elementwise.

    Args:
        x: Points, of any shape S.
        logits: Logarithms of the weights up to a constant; broadcastable to S + (K,).
        means: mu, likewise.
        log_scales: s, likewise.

    Returns:
        y and log dy/dx, both of shape S. Differentiable twice in all four arguments. Where y
        overflows the dtype, it is the infinity of its sign. A non-finite argument gives NaN.

    Raises:
        ValueError: The parameters do not broadcast to S + (K,).
    """
    x, logits, means, log_scales = _one_dtype(x, logits, means, log_scales)
    return _LogitCdf.apply(x, *_broadcast(x, logits, means, log_scales))


def inverse_logit_cdf(y: Tensor, logits: Tensor, means: Tensor, log_scales: Tensor) -> Tensor:
    """Compute the x with logit F(x) = y, elementwise.

    Args:
        y: Targets, of any shape S. One that is not finite gives NaN.
        logits: As for `logit_cdf`.
        means: Likewise.
        log_scales: Likewise.

    Returns:
        x, of shape S. Differentiable twice in all four arguments, by the implicit function
        theorem.

    Raises:
        RootError: An element did not converge.
        ValueError: The parameters do not broadcast to S + (K,).
    """
    y, logits, means, log_scales = _one_dtype(y, logits, means, log_scales)
    return _InverseLogitCdf.apply(y, *_broadcast(y, logits, means, log_scales))


def solve_with_certificate(
    y: Tensor,
    logits: Tensor,
    means: Tensor,
    log_scales: Tensor,
    *,
    method: Literal["newton", "bisection"] = "newton",
    ulps: float = 1.0,
    tolerance: float = 1e-12,
    max_evaluations: int = MAX_EVALUATIONS,
) -> Root:
    """Solve logit F(x) = y without gradients, and return what proves each root.

    Args:
        y: Targets, of any shape S.
        logits: Broadcastable to S + (K,).
        means: Likewise.
        log_scales: Likewise.
        method: "newton", safeguarded by bisection, is that of `inverse_logit_cdf`. "bisection" is
            the paper's, kept for measurements: it stops when the widest bracket is narrow enough
            or when the cap is reached.
        ulps: Accepted residual in units of eps * max(1, |y|); for Newton's method only.
        tolerance: Accepted width of a bracket in units of x; for bisection only. In float32 only
            roots below 1e-5 can meet the default, as in the published codes.
        max_evaluations: Cap for each element.

    Returns:
        Root, residual, width of the last bracket and number of evaluations, each of shape S.

    Raises:
        RootError: Newton's method reached the cap.
        ValueError: Another method, a cap outside [1, 2^30], or a negative or non-finite size.
    """
    if method not in ("newton", "bisection"):
        raise ValueError(f"method must be 'newton' or 'bisection', got {method!r}")
    if not 1 <= max_evaluations <= 1 << 30:
        raise ValueError(f"max_evaluations must be 1 ... 2^30, got {max_evaluations}")
    for name, size in (("ulps", ulps), ("tolerance", tolerance)):
        if not 0 <= size < math.inf:
            raise ValueError(f"{name} must be finite and at least 0, got {size}")
    y, logits, means, log_scales = _one_dtype(y, logits, means, log_scales)
    parameters = _broadcast(y, logits, means, log_scales)
    if method == "newton" and backend_for(y) != "torch":
        result = Root(*mixture_inverse(y, *parameters, ulps, max_evaluations))
        check_finished(result, max_evaluations)
        return result
    flat = tuple(p.reshape(-1, p.shape[-1]) for p in parameters)
    target = y.reshape(-1)
    lower, upper, start, resolution = bracket(target, *flat)
    if method == "newton":
        result = find_root(
            evaluate,
            flat,
            target,
            lower,
            upper,
            start,
            resolution,
            ulps=ulps,
            max_evaluations=max_evaluations,
        )
    else:
        result = bisection(
            evaluate,
            flat,
            target,
            lower,
            upper,
            tolerance=tolerance,
            max_iterations=max_evaluations - 1,  # the last evaluation is at the returned root
        )
    return Root(*(getattr(result, field.name).reshape(y.shape) for field in fields(Root)))


def _one_dtype(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Convert to the widest of the dtypes, and at least to float32."""
    dtype = torch.float32
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return tuple(tensor.to(dtype) for tensor in tensors)


def _broadcast(x: Tensor, *parameters: Tensor) -> Parameters:
    count = max(p.shape[-1] if p.ndim else 0 for p in parameters)
    if count == 0:
        got = ", ".join(str(tuple(p.shape)) for p in parameters)
        raise ValueError(f"MixtureLogistic needs at least 1 component on the last axis, got {got}")
    shape = (*x.shape, count)
    try:
        logits, means, log_scales = (p.expand(shape) for p in parameters)
    except RuntimeError:
        got = ", ".join(str(tuple(p.shape)) for p in parameters)
        raise ValueError(
            "MixtureLogistic needs logits, means and log_scales that broadcast to the input's "
            f"shape and K components, {tuple(x.shape)} + (K,), got {got}"
        ) from None
    return logits, means, log_scales
