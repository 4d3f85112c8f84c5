"""Logit of a logistic mixture's CDF: value, log-derivative, inverse, and all their gradients.

The operators are computed by the backend's kernels (`cpu/`, `cuda/`) or by torch's operations
(`mixture_formulas`, which states the formulas). Second derivatives go through the latter.

The path from a training step: `Coupling.forward`, the family's `transform`, `packed_logit_cdf`,
the operator `mixture_forward`, and the launch in `cpu/mixture_logistic.py` or `cuda/launch.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, Literal

import torch
from torch import Tensor

from ..root_finding import MAX_EVALUATIONS, Root, bisection, check_finished, find_root
from .backend import backend_for
from .cpu import mixture_logistic as cpu
from .cuda import launch as cuda
from .mixture_formulas import Partials, bracket, evaluate, pack, unpack
from .tracing import refuse_transforms
from .visibility import are_batched

# The compiled kernels as torch operators, opaque to torch.compile and torch.export. `parameters`
# are logits, means and log-scales, or one tensor that holds them: see `unpack`. Defined by schema,
# because `custom_op` spends about 10 us more on a call.
_SCHEMAS = {
    "mixture_forward": "(Tensor x, Tensor[] parameters, float floor) -> (Tensor, Tensor, Tensor)",
    "mixture_backward": "(Tensor x, Tensor[] parameters, float floor, Tensor grad_y, "
    "Tensor grad_l, Tensor grad_leading) -> Tensor[]",
    "mixture_inverse": "(Tensor y, Tensor[] parameters, float floor, float ulps, "
    "int max_evaluations) -> (Tensor, Tensor, Tensor, Tensor)",
}
for _name, _schema in _SCHEMAS.items():
    torch.library.define(f"flowpp::{_name}", _schema, tags=(torch.Tag.pt2_compliant_tag,))
    for _device, _kernels in (("cpu", cpu), ("cuda", cuda)):
        _function = getattr(_kernels, _name.removeprefix("mixture_"))
        torch.library.impl(f"flowpp::{_name}", _device, _function)

mixture_forward = torch.ops.flowpp.mixture_forward.default
mixture_backward = torch.ops.flowpp.mixture_backward.default
mixture_inverse = torch.ops.flowpp.mixture_inverse.default


@torch.library.register_fake("flowpp::mixture_forward")
def _(x, parameters, floor):
    y, log_derivative = (
        torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(2)
    )
    passed = parameters[0].shape[-1] % 3 if len(parameters) == 1 else 0
    return y, log_derivative, x.new_empty((passed, *x.shape))


@torch.library.register_fake("flowpp::mixture_backward")
def _(x, parameters, floor, grad_y, grad_l, grad_leading):
    by_x = torch.empty_like(x, memory_format=torch.contiguous_format)
    return [by_x, *map(torch.empty_like, parameters)]


@torch.library.register_fake("flowpp::mixture_inverse")
def _(y, parameters, floor, ulps, max_evaluations):
    contiguous = torch.contiguous_format
    roots = (torch.empty_like(y, memory_format=contiguous) for _ in range(3))
    return *roots, torch.empty_like(y, dtype=torch.int64, memory_format=contiguous)


class _LogitCdf(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, floor: float, *parameters: Tensor) -> Any:
        ctx.floor = floor
        ctx.save_for_backward(x, *parameters)
        if backend_for(x) != "torch":
            return mixture_forward(x, parameters, floor)
        passed = parameters[0].shape[-1] % 3 if len(parameters) == 1 else 0
        leading = parameters[0][..., :passed].movedim(-1, 0).to(x.dtype, copy=True)
        components = unpack([p.to(x.dtype) for p in parameters], floor)
        return *evaluate(x, *components), leading.contiguous()

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor, grad_l: Tensor, grad_leading: Tensor) -> Any:
        x, *parameters = ctx.saved_tensors
        # A second derivative needs a graph, which the compiled kernels do not record, and batched
        # gradients need torch's operations.
        recorded = torch.is_grad_enabled() or are_batched(grad_y, grad_l, grad_leading)
        if not recorded and backend_for(x) != "torch":
            by_x, *by_parameters = mixture_backward(
                x, parameters, ctx.floor, grad_y, grad_l, grad_leading
            )
            return by_x, None, *by_parameters
        wide = [p.to(x.dtype) for p in parameters]
        by_x, *by_components = Partials(x, *unpack(wide, ctx.floor)).gradients(grad_y, grad_l)
        return by_x, None, *pack(parameters, ctx.floor, grad_leading, by_components)


class _InverseLogitCdf(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor, floor: float, *parameters: Tensor) -> Any:
        x = _solve(y, parameters, floor).root
        ctx.floor = floor
        ctx.save_for_backward(x, *parameters)
        return x

    @staticmethod
    def backward(ctx: Any, grad_x: Tensor) -> Any:
        # x is an output, so a second derivative also follows its dependence on y and parameters.
        x, *parameters = ctx.saved_tensors
        _, log_derivative, leading = _LogitCdf.apply(x, ctx.floor, *parameters)
        partials = Partials(x, *unpack([p.to(x.dtype) for p in parameters], ctx.floor))
        by_y, *by_components = partials.inverse_gradients(grad_x, log_derivative)
        no_gradient = torch.zeros_like(leading)
        return by_y, None, *pack(parameters, ctx.floor, no_gradient, by_components)


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
        ValueError: The parameters do not broadcast to S + (K,), or are on another device.
    """
    refuse_transforms()
    x, *parameters = _one_dtype(x, logits, means, log_scales)
    y, log_derivative, _ = _LogitCdf.apply(x, -math.inf, *_broadcast(x, *parameters))
    return y, log_derivative


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
        ValueError: The parameters do not broadcast to S + (K,), or are on another device.
    """
    refuse_transforms()
    y, *parameters = _one_dtype(y, logits, means, log_scales)
    return _InverseLogitCdf.apply(y, -math.inf, *_broadcast(y, *parameters))


def packed_logit_cdf(
    x: Tensor, parameters: Tensor, floor: float = -math.inf
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute `logit_cdf` of parameters that lie in one tensor, without copies of it.

    Args:
        x: Points, of any shape S.
        parameters: Shape S + (P,): P mod 3 leading numbers that are not the mixture's, K logits, K
            means and K log-scales, with K = P // 3. bfloat16 is read as it is, and computed in
            float32.
        floor: Lower bound of the log-scales; NaN stays NaN.

    Returns:
        y and log dy/dx, both of shape S, and the leading numbers, of shape (P mod 3,) + S. All are
        differentiable twice. Below the floor the gradient of a log-scale is 0.

    Raises:
        ValueError: `parameters` is of another shape or on another device, or has fewer than 3
            numbers.
    """
    return _LogitCdf.apply(*_packed(x, parameters, floor))


def packed_inverse_logit_cdf(y: Tensor, parameters: Tensor, floor: float = -math.inf) -> Tensor:
    """Compute `inverse_logit_cdf` of parameters that lie in one tensor.

    Args:
        y: Targets, of any shape S.
        parameters: As for `packed_logit_cdf`.
        floor: Likewise.

    Raises:
        RootError: An element did not converge.
        ValueError: As for `packed_logit_cdf`.
    """
    return _InverseLogitCdf.apply(*_packed(y, parameters, floor))


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
    if method == "newton":
        return _solve(y, parameters, -math.inf, ulps, max_evaluations)
    flat = tuple(p.reshape(-1, p.shape[-1]) for p in parameters)
    target = y.reshape(-1)
    lower, upper, _, _ = bracket(target, *flat)
    result = bisection(
        evaluate,
        flat,
        target,
        lower,
        upper,
        tolerance=tolerance,
        max_iterations=max_evaluations - 1,  # the last evaluation is at the returned root
    )
    return _shaped(result, y)


def _solve(
    y: Tensor,
    parameters: Sequence[Tensor],
    floor: float,
    ulps: float = 1.0,
    max_evaluations: int = MAX_EVALUATIONS,
) -> Root:
    """Solve logit F(x) = y by Newton's method."""
    if torch.jit.is_tracing():
        raise RuntimeError(
            "the inverse must be computed without torch.jit.trace, which would fix its number of "
            "steps to that of the example"
        )
    if backend_for(y) != "torch":
        result = Root(*mixture_inverse(y, parameters, floor, ulps, max_evaluations))
        check_finished(result, max_evaluations)
        return result
    components = unpack([p.to(y.dtype) for p in parameters], floor)
    flat = tuple(p.reshape(-1, p.shape[-1]) for p in components)
    target = y.reshape(-1)
    lower, upper, start, resolution = bracket(target, *flat)
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
    return _shaped(result, y)


def _shaped(result: Root, y: Tensor) -> Root:
    return Root(*(getattr(result, field.name).reshape(y.shape) for field in fields(Root)))


def _packed(x: Tensor, parameters: Tensor, floor: float) -> tuple[Tensor, float, Tensor]:
    refuse_transforms()
    if parameters.shape[:-1] != x.shape or parameters.shape[-1] < 3:
        raise ValueError(
            "packed parameters must have the input's shape and at least 3 numbers more, "
            f"{tuple(x.shape)} + (P,), got {tuple(parameters.shape)}"
        )
    _check_devices(x, parameters)
    (wide,) = (
        _one_dtype(x) if parameters.dtype is torch.bfloat16 else _one_dtype(x, parameters)[:1]
    )
    if parameters.dtype is not torch.bfloat16 or wide.dtype is not torch.float32:
        parameters = parameters.to(wide.dtype)
    return wide, floor, parameters


def _one_dtype(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Convert to the widest of the dtypes, and at least to float32."""
    dtype = torch.float32
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return tuple(tensor.to(dtype) for tensor in tensors)


def _broadcast(x: Tensor, *parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
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
    _check_devices(x, logits, means, log_scales)
    return logits, means, log_scales


def _check_devices(x: Tensor, *parameters: Tensor) -> None:
    """Require one device: a kernel is launched on addresses, which are of no use on another."""
    for parameter in parameters:
        if parameter.device != x.device:
            raise ValueError(
                f"the mixture's parameters must be on its input's device {x.device}, "
                f"got {parameter.device}"
            )
