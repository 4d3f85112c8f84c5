"""Logit of a logistic mixture's CDF: value, log-derivative, inverse, and all their gradients.

With lw = log_softmax(logits), z_k = (x - mu_k) exp(-s_k) and F = sum_k w_k sigmoid(z_k):

    y         = logit F(x) = log F - log (1 - F)
    log dy/dx = log f - log F - log (1 - F)

Three plain log-sum-exps are right in the body and lose everything in the far tail of the second
line, where two large numbers cancel. Here every sum is taken relative to its largest term (its
anchor), and the anchors, which are the large numbers, are subtracted from each other first, the
weight's part from the weight's and the distance's from the distance's. Near the median, where
log F and log(1 - F) cancel instead, y comes from T = 2F - 1 = sum_k w_k tanh(z_k / 2) as
2 atanh T.

Gradients are analytic. The backward formulas are made of smooth functions only, so that a second
backward pass through them is right everywhere, also where some z_k is exactly 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from ..root_finding import MAX_EVALUATIONS, Root, bisection, check_finished, find_root
from .backend import backend_for
from .operators import mixture_backward, mixture_forward, mixture_inverse

Parameters = tuple[Tensor, Tensor, Tensor]

EXP_RANGE = {torch.float32: 80.0, torch.float64: 700.0}
"""exp(+-this) is still an ordinary number of the dtype."""


def logit_cdf(
    x: Tensor, logits: Tensor, means: Tensor, log_scales: Tensor
) -> tuple[Tensor, Tensor]:
    """y = logit F(x) and log dy/dx, elementwise.

    Args:
        x: any shape S.
        logits: log of the weights up to a constant; broadcastable to S + (K,).
        means: likewise.
        log_scales: likewise.

    Returns:
        y and log dy/dx, both of shape S. Differentiable twice in all four arguments. Where a
        finite x is so many scales away that even y overflows the dtype, y is the infinity of its
        sign. A non-finite argument gives NaN.

    Raises:
        ValueError: parameters that do not broadcast to S + (K,).
    """
    x, logits, means, log_scales = _one_dtype(x, logits, means, log_scales)
    return _LogitCdf.apply(x, *_broadcast(x, logits, means, log_scales))


def inverse_logit_cdf(y: Tensor, logits: Tensor, means: Tensor, log_scales: Tensor) -> Tensor:
    """The x with logit F(x) = y, elementwise.

    Shapes and errors as `logit_cdf`. Differentiable twice in all four arguments, by the implicit
    function theorem. Targets that are not finite give NaN.

    Raises:
        RuntimeError: an element did not converge; never a wrong number.
    """
    y, logits, means, log_scales = _one_dtype(y, logits, means, log_scales)
    return _InverseLogitCdf.apply(y, *_broadcast(y, logits, means, log_scales))


def _one_dtype(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The widest of the dtypes, float32 at least: half precisions stop before the mixture."""
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


def _standardize(x: Tensor, means: Tensor, log_scales: Tensor) -> tuple[Tensor, Tensor]:
    """z = (x - mu) e^-s and e^-s, both held inside the finite range, so that z is 0 at x = mu."""
    largest = torch.finfo(x.dtype).max
    x = x.unsqueeze(-1)
    rate = torch.exp(-log_scales).clamp(max=largest)
    z = (x - means) * rate
    # Where x - mu or e^-s alone is out of range, z need not be: half of each at a time.
    half = torch.exp(-0.5 * log_scales).clamp(max=largest)
    halved = (0.5 * x - 0.5 * means) * half * half * 2.0
    extreme = (log_scales.abs() > EXP_RANGE[x.dtype]) | torch.isinf(x - means)
    return torch.where(extreme, halved, z).clamp(-largest, largest), rate


@dataclass(frozen=True)
class _AnchoredSum:
    """log sum_k e^{lw_k + q_k} r_k, in parts that must not be rounded together too early.

    Args:
        log_weight: lw of the anchor, the component with the largest lw + q; shape S + (1,).
        exponent: its q, likewise.
        log_sum: log sum_k e^{(lw_k - lw) + (q_k - q)} r_k, of shape S.
    """

    log_weight: Tensor
    exponent: Tensor
    log_sum: Tensor

    @property
    def anchor(self) -> Tensor:
        """The logarithm of the largest term, but for its r; shape S + (1,)."""
        return self.log_weight + self.exponent


def _anchored_sum(log_weights: Tensor, exponents: Tensor, r: Tensor) -> _AnchoredSum:
    component = (log_weights + exponents).argmax(-1, keepdim=True)
    # lw + q is rounded to its own size, and may choose among near equals by rounding alone. Look
    # again relative to the first choice, where near equals differ by small numbers.
    for _ in range(2):
        log_weight, exponent = log_weights.gather(-1, component), exponents.gather(-1, component)
        terms = (log_weights - log_weight) + (exponents - exponent)
        component = terms.argmax(-1, keepdim=True)
    return _AnchoredSum(log_weight, exponent, _log_sum(terms, r))


def evaluate(
    x: Tensor, logits: Tensor, means: Tensor, log_scales: Tensor
) -> tuple[Tensor, Tensor]:
    """`logit_cdf` without gradients; parameters already have shape x.shape + (K,)."""
    # 0 for finite arguments and NaN for all others.
    poison = x * 0 + (means * 0 + log_scales * 0 + logits * 0).sum(-1)

    lw = torch.log_softmax(logits, -1)
    z, _ = _standardize(x, means, log_scales)
    distance = z.abs()
    r = 1 / (1 + torch.exp(-distance))
    cdf = _anchored_sum(lw, z.clamp(max=0), r)
    survival = _anchored_sum(lw, -z.clamp(min=0), r)

    in_tails = (cdf.anchor - survival.anchor).squeeze(-1) + (cdf.log_sum - survival.log_sum)
    twice_excess = (torch.exp(lw) * torch.tanh(z / 2)).sum(-1)
    near_median = twice_excess.abs() < 0.5
    y = torch.where(near_median, 2 * torch.atanh(twice_excess.clamp(-0.5, 0.5)), in_tails)
    largest = torch.finfo(y.dtype).max
    y = torch.where(y.abs() >= largest, torch.copysign(y.new_tensor(torch.inf), y), y)

    # The smaller anchor is a large number in a tail: both its parts leave before anything else.
    in_cdf = cdf.anchor <= survival.anchor
    log_weight = torch.where(in_cdf, cdf.log_weight, survival.log_weight)
    far = -torch.where(in_cdf, cdf.exponent, survival.exponent)
    larger = torch.maximum(cdf.anchor, survival.anchor)
    log_density = ((lw - log_weight) - (distance - far)) - larger - log_scales
    anchor_density = log_density.amax(-1)
    log_sum_density = _log_sum(log_density - anchor_density.unsqueeze(-1), r * r)
    log_derivative = anchor_density + (log_sum_density - cdf.log_sum - survival.log_sum)
    return y + poison, log_derivative + poison


def _log_sum(log_terms: Tensor, factors: Tensor) -> Tensor:
    """log sum_k exp(log_terms_k) factors_k, for terms whose largest is 0."""
    return torch.log((torch.exp(log_terms) * factors).sum(-1))


class _Partials:
    """Partial derivatives of y and l = log dy/dx by z_k and by lw_k, from smooth functions alone.

    With A_k and B_k the shares of component k in F and in 1 - F, and D_k its share in the density:

        dy/dz_k = A_k sigmoid(-z_k) + B_k sigmoid(z_k)
        dl/dz_k = (D_k - A_k) sigmoid(-z_k) - (D_k - B_k) sigmoid(z_k)
        dy/dlw_k = A_k - B_k            dl/dlw_k = D_k - A_k - B_k
    """

    def __init__(self, x: Tensor, logits: Tensor, means: Tensor, log_scales: Tensor) -> None:
        lw = torch.log_softmax(logits, -1)
        self.z, self.rate = _standardize(x, means, log_scales)
        log_below, log_above = lw + logsigmoid(self.z), lw + logsigmoid(-self.z)
        below, above = torch.softmax(log_below, -1), torch.softmax(log_above, -1)
        density = torch.softmax(log_below + (logsigmoid(-self.z) - log_scales), -1)
        left, right = torch.sigmoid(-self.z), torch.sigmoid(self.z)
        self.weights = torch.exp(lw)
        self.density = density
        self.y_z = below * left + above * right
        self._log_terms = (log_below, log_above)
        self.l_z = (density - below) * left - (density - above) * right
        self.y_lw = below - above
        # sum_k dl/dlw_k = -1, which log_softmax turns into + w_k for the logits.
        self.l_logits = density - below - above + self.weights

    def log_y_z(self) -> Tensor:
        """log dy/dz_k, also where dy/dz_k underflows."""
        log_below, log_above = (torch.log_softmax(t, -1) for t in self._log_terms)
        return torch.logaddexp(log_below + logsigmoid(-self.z), log_above + logsigmoid(self.z))


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
        # The compiled kernels give numbers; a second derivative needs a graph through the
        # formulas.
        if not torch.is_grad_enabled() and backend_for(x) != "torch":
            return mixture_backward(x, logits, means, log_scales, grad_y, grad_l)
        p = _Partials(x, logits, means, log_scales)
        grad_y, grad_l = grad_y.unsqueeze(-1), grad_l.unsqueeze(-1)
        by_z = grad_y * p.y_z + grad_l * p.l_z
        by_difference = by_z * p.rate
        return (
            by_difference.sum(-1),
            grad_y * p.y_lw + grad_l * p.l_logits,
            -by_difference,
            -by_z * p.z - grad_l * p.density,
        )


class _InverseLogitCdf(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor, logits: Tensor, means: Tensor, log_scales: Tensor) -> Any:
        x = solve_with_certificate(y, logits, means, log_scales).root
        ctx.save_for_backward(x, logits, means, log_scales)
        return x

    @staticmethod
    def backward(ctx: Any, grad_x: Tensor) -> Any:
        # x is an output: its own dependence on y and the parameters carries the second order.
        x, logits, means, log_scales = ctx.saved_tensors
        p = _Partials(x, logits, means, log_scales)
        _, log_derivative = logit_cdf(x, logits, means, log_scales)
        # Where dx/dy overflows and nothing is asked of it, 0: the exponent too, for a second pass.
        idle = (grad_x == 0) & torch.isinf(torch.exp(-log_derivative))
        grad_y = grad_x * torch.exp(-torch.where(idle, 0.0, log_derivative))
        # dx/dmu_k, component k's share in dy/dx: never a quotient of two tiny numbers.
        share = torch.softmax(p.log_y_z() - log_scales, -1)
        by_mean = grad_x.unsqueeze(-1) * share
        return (
            grad_y,
            -_product(p.y_lw, grad_y.unsqueeze(-1)),
            by_mean,
            by_mean * (x.unsqueeze(-1) - means),
        )


def _product(a: Tensor, b: Tensor) -> Tensor:
    """a b, and 0 where a is 0 though b is infinite: on a plateau dx/dy overflows."""
    return a * torch.where((a == 0) & torch.isinf(b), 0.0, b)


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
    """Roots x of logit F(x) = y without gradients, and what proves them.

    Each component alone would put the root at mu_k + y e^{s_k}; the mixture's F lies between the
    smallest and the largest component's, so its root lies between theirs. No bracket is guessed.

    Args:
        y: any shape S.
        logits: broadcastable to S + (K,).
        means: likewise.
        log_scales: likewise.
        method: "newton", safeguarded by bisection, is what `inverse` uses; "bisection" is the
            paper's, kept to be measured: it goes on until the widest bracket of all is narrow,
            and returns what it has when the cap is reached.
        ulps: size of an acceptable residual, in units of eps * max(1, |y|); Newton's only.
        tolerance: width of an acceptable bracket, in units of x; bisection's only. In float32 the
            default is met by roots below 1e-5 alone, as in the published codes.
        max_evaluations: cap for each element.

    Returns:
        Root, residual, width of the last bracket and number of evaluations, each of shape S.

    Raises:
        RuntimeError: Newton's method reached the cap; never a wrong number.
        ValueError: another method, a cap below 1 or beyond 32 bits, or no size of an error.
    """
    if method not in ("newton", "bisection"):
        raise ValueError(f"the inverse needs method 'newton' or 'bisection', got {method!r}")
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
    ends_and_start = bracket(target, *flat)
    if method == "newton":
        result = find_root(
            evaluate, flat, target, *ends_and_start, ulps=ulps, max_evaluations=max_evaluations
        )
    else:
        # The last evaluation is at the root that is returned.
        result = bisection(
            evaluate,
            flat,
            target,
            *ends_and_start[:2],
            tolerance=tolerance,
            max_iterations=max_evaluations - 1,
        )
    return Root(*(getattr(result, field.name).reshape(y.shape) for field in fields(Root)))


def bracket(
    target: Tensor, logits: Tensor, means: Tensor, log_scales: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Lower end, upper end, a first guess and what is finest, `(N,)` each.

    The ends are moved out by a few roundings of mu_k + y e^{s_k} and of y, so that the root is
    between them also where these two cancel. An end beyond the dtype is its largest number;
    where an argument is not finite it is NaN. The last is eps / 4 of the smallest component's mean
    or scale, whichever is larger: near zero, y as computed hardly changes over less.
    """
    info = torch.finfo(target.dtype)
    # Where e^s alone is out of range, y e^s need not be: half of it at a time.
    extreme = log_scales.abs() > EXP_RANGE[target.dtype]
    half = torch.exp(0.5 * log_scales)
    first = torch.where(extreme, half, torch.exp(log_scales))
    second = torch.where(extreme, half, 1.0)
    target = target.unsqueeze(-1)
    step = torch.where(target == 0, 0.0, target * first * second)
    unit = target.abs().clamp(min=1)
    # The last term is for scales that are no number of the dtype any more.
    slack = 8 * info.eps * (means.abs() + unit * first * second + unit * info.tiny)

    roots = (means + step).nan_to_num().clamp(info.min, info.max)
    lower = (means + step - slack).nan_to_num(info.min, info.max, info.min).amin(-1)
    upper = (means + step + slack).nan_to_num(info.max, info.max, info.min).amax(-1)
    start = (torch.softmax(logits, -1) * roots).sum(-1)
    start = torch.where(torch.isfinite(start), start, lower / 2 + upper / 2)
    poison = (target * 0 + means * 0 + log_scales * 0 + logits * 0).sum(-1)
    finest = info.eps / 4 * torch.maximum(means.abs(), (first * second).clamp(max=info.max))
    return lower + poison, upper + poison, start, finest.amin(-1)
