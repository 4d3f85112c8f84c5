"""The logistic mixture in torch's own operations: value, log-derivative, gradients, bracket.

With lw = log_softmax(logits), z_k = (x - mu_k) exp(-s_k) and F = sum_k w_k sigmoid(z_k):

    y         = logit F(x) = log F - log (1 - F)
    log dy/dx = log f - log F - log (1 - F)

Numerics: three plain log-sum-exps are accurate in the body, but cancel in the far tails. So every
sum is taken relative to its largest term, its anchor. The anchors are large numbers, so their
parts are subtracted first, log-weight from log-weight and distance from distance. Near the median,
where log F and log(1 - F) cancel, y = 2 atanh T with T = 2F - 1 = sum_k w_k tanh(z_k / 2).

The gradient formulas consist of smooth functions, so that a second backward pass through them is
correct everywhere, also where some z_k is exactly 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

EXP_RANGE = {torch.float32: 80.0, torch.float64: 700.0}
"""Largest |a| for which exp(a) is a normal number of the dtype."""


def evaluate(
    x: Tensor, logits: Tensor, means: Tensor, log_scales: Tensor
) -> tuple[Tensor, Tensor]:
    """Compute y = logit F(x) and log dy/dx; parameters have shape x.shape + (K,)."""
    poison = _poison(x, logits, means, log_scales)
    lw = torch.log_softmax(logits, -1)
    z, _ = standardize(x, means, log_scales)
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

    # In a tail the smaller anchor is a large number: subtract its two parts before all else.
    in_cdf = cdf.anchor <= survival.anchor
    log_weight = torch.where(in_cdf, cdf.log_weight, survival.log_weight)
    far = -torch.where(in_cdf, cdf.exponent, survival.exponent)
    larger = torch.maximum(cdf.anchor, survival.anchor)
    log_density = ((lw - log_weight) - (distance - far)) - larger - log_scales
    anchor_density = log_density.amax(-1)
    log_sum_density = _log_sum(log_density - anchor_density.unsqueeze(-1), r * r)
    log_derivative = anchor_density + (log_sum_density - cdf.log_sum - survival.log_sum)
    return y + poison, log_derivative + poison


def _poison(x: Tensor, logits: Tensor, means: Tensor, log_scales: Tensor) -> Tensor:
    """Return 0 for finite arguments, and NaN for all others, of shape S."""
    return x * 0 + (means * 0 + log_scales * 0 + logits * 0).sum(-1)


def unpack(
    parameters: Sequence[Tensor], floor: float = -math.inf
) -> tuple[Tensor, Tensor, Tensor]:
    """Return logits, means and log-scales, each of shape S + (K,).

    Args:
        parameters: These three; or one tensor of shape S + (P,), whose last axis holds P mod 3
            numbers that are not the mixture's, K logits, K means and K log-scales.
        floor: Lower bound of the log-scales.
    """
    if len(parameters) == 1:
        packed, count = parameters[0], parameters[0].shape[-1] // 3
        _, *parameters = packed.split([packed.shape[-1] % 3, count, count, count], -1)
    logits, means, log_scales = parameters
    return logits, means, log_scales.clamp(min=floor) if floor > -math.inf else log_scales


def pack(
    parameters: Sequence[Tensor], floor: float, leading: Tensor, gradients: Sequence[Tensor]
) -> list[Tensor]:
    """Return the gradients of `parameters`, given those of what `unpack` returns.

    Args:
        parameters: As for `unpack`.
        floor: Likewise. Below it, and for NaN, the gradient of a log-scale is 0.
        leading: Gradients of the numbers that are not the mixture's, of shape (P mod 3,) + S.
        gradients: Gradients of logits, means and log-scales.
    """
    *others, by_log_scale = gradients
    if floor > -math.inf:
        _, _, log_scales = unpack(parameters)
        by_log_scale = torch.where(log_scales >= floor, by_log_scale, 0.0)
    gradients = [*others, by_log_scale]
    return (
        gradients
        if len(parameters) == 3
        else [torch.cat([*leading.unsqueeze(-1), *gradients], -1)]
    )


def standardize(x: Tensor, means: Tensor, log_scales: Tensor) -> tuple[Tensor, Tensor]:
    """Return z = (x - mu) e^-s and e^-s, both clamped to finite numbers, so that z(mu) = 0."""
    largest = torch.finfo(x.dtype).max
    x = x.unsqueeze(-1)
    rate = torch.exp(-log_scales).clamp(max=largest)
    z = (x - means) * rate
    # x - mu or e^-s can overflow where z does not: multiply by e^(-s/2) twice.
    half = torch.exp(-0.5 * log_scales).clamp(max=largest)
    halved = (0.5 * x - 0.5 * means) * half * half * 2.0
    extreme = (log_scales.abs() > EXP_RANGE[x.dtype]) | torch.isinf(x - means)
    return torch.where(extreme, halved, z).clamp(-largest, largest), rate


@dataclass(frozen=True)
class _AnchoredSum:
    """log sum_k e^{lw_k + q_k} r_k, in parts that must not be rounded together too early.

    Args:
        log_weight: lw of the anchor, the component with the largest lw + q; shape S + (1,).
        exponent: q of the anchor, of the same shape.
        log_sum: log sum_k e^{(lw_k - lw) + (q_k - q)} r_k, of shape S.
    """

    log_weight: Tensor
    exponent: Tensor
    log_sum: Tensor

    @property
    def anchor(self) -> Tensor:
        """Logarithm of the largest term without its r; shape S + (1,)."""
        return self.log_weight + self.exponent


def _anchored_sum(log_weights: Tensor, exponents: Tensor, r: Tensor) -> _AnchoredSum:
    component = (log_weights + exponents).argmax(-1, keepdim=True)
    # lw + q is rounded to its own size, so that rounding alone may decide between nearly equal
    # terms. Choose again relative to the first choice, where they differ by small numbers.
    for _ in range(2):
        log_weight, exponent = log_weights.gather(-1, component), exponents.gather(-1, component)
        terms = (log_weights - log_weight) + (exponents - exponent)
        component = terms.argmax(-1, keepdim=True)
    return _AnchoredSum(log_weight, exponent, _log_sum(terms, r))


def _log_sum(log_terms: Tensor, factors: Tensor) -> Tensor:
    """Return log sum_k exp(log_terms_k) factors_k, for terms whose largest is 0."""
    return torch.log((torch.exp(log_terms) * factors).sum(-1))


class Partials:
    """Partial derivatives of y and l = log dy/dx by z_k and by lw_k, from smooth functions alone.

    With A_k and B_k the shares of component k in F and in 1 - F, and D_k its share in the density:

        dy/dz_k = A_k sigmoid(-z_k) + B_k sigmoid(z_k)
        dl/dz_k = (D_k - A_k) sigmoid(-z_k) - (D_k - B_k) sigmoid(z_k)
        dy/dlw_k = A_k - B_k            dl/dlw_k = D_k - A_k - B_k
    """

    def __init__(self, x: Tensor, logits: Tensor, means: Tensor, log_scales: Tensor) -> None:
        self.x, self.means, self.log_scales = x, means, log_scales
        self.poison = _poison(x, logits, means, log_scales)
        lw = torch.log_softmax(logits, -1)
        self.z, self.rate = standardize(x, means, log_scales)
        log_cdf, log_survival = lw + logsigmoid(self.z), lw + logsigmoid(-self.z)
        cdf, survival = torch.softmax(log_cdf, -1), torch.softmax(log_survival, -1)
        density = torch.softmax(log_cdf + (logsigmoid(-self.z) - log_scales), -1)
        left, right = torch.sigmoid(-self.z), torch.sigmoid(self.z)
        weights = torch.exp(lw)
        self.density = density
        self.y_z = cdf * left + survival * right
        self._log_terms = (log_cdf, log_survival)
        self.l_z = (density - cdf) * left - (density - survival) * right
        self.y_lw = cdf - survival
        # sum_k dl/dlw_k = -1, which log_softmax turns into + w_k for the logits.
        self.l_logits = density - cdf - survival + weights

    def log_y_z(self) -> Tensor:
        """Return log dy/dz_k, also where dy/dz_k underflows."""
        log_cdf, log_survival = (torch.log_softmax(t, -1) for t in self._log_terms)
        return torch.logaddexp(log_cdf + logsigmoid(-self.z), log_survival + logsigmoid(self.z))

    def gradients(self, grad_y: Tensor, grad_l: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the gradients of x, logits, means and log_scales, given those of y and l."""
        grad_y, grad_l = (grad_y + self.poison).unsqueeze(-1), grad_l.unsqueeze(-1)
        by_z = grad_y * self.y_z + grad_l * self.l_z
        by_difference = by_z * self.rate
        return (
            by_difference.sum(-1),
            grad_y * self.y_lw + grad_l * self.l_logits,
            -by_difference,
            -by_z * self.z - grad_l * self.density,
        )

    def inverse_gradients(
        self, grad_x: Tensor, log_derivative: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the gradients of y, logits, means and log_scales, given that of the root x.

        By the implicit function theorem, with `log_derivative` log dy/dx at the root.
        """
        # Where dx/dy overflows and grad_x is 0, the gradient is 0. The exponent is replaced, too,
        # for the second backward pass.
        unused = (grad_x == 0) & torch.isinf(torch.exp(-log_derivative))
        grad_y = grad_x * torch.exp(-torch.where(unused, 0.0, log_derivative))
        # dx/dmu_k is component k's share in dy/dx: never a quotient of two tiny numbers.
        share = torch.softmax(self.log_y_z() - self.log_scales, -1)
        by_mean = grad_x.unsqueeze(-1) * share
        return (
            grad_y,
            -_product(self.y_lw, grad_y.unsqueeze(-1)),
            by_mean,
            by_mean * (self.x.unsqueeze(-1) - self.means),
        )


def _product(a: Tensor, b: Tensor) -> Tensor:
    """Return a b, and 0 where a is 0 and b infinite, as dx/dy is on a plateau."""
    return a * torch.where((a == 0) & torch.isinf(b), 0.0, b)


def bracket(
    target: Tensor, logits: Tensor, means: Tensor, log_scales: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return an interval that contains the x with logit F(x) = target, and where to start.

    Component k alone has its root at mu_k + target e^{s_k}; the mixture's lies between the
    smallest and the largest of these. The ends are moved out by a few roundings of mu_k +
    target e^{s_k} and of the target, so that the root lies inside also where these two cancel.

    Args:
        target: Shape (N,).
        logits: Shape (N, K).
        means: Likewise.
        log_scales: Likewise.

    Returns:
        Lower end, upper end, first guess, and resolution near zero: eps / 4 of the smallest
        component's mean or scale, whichever is larger. Over less than that y hardly changes. All
        of shape (N,). An end beyond the dtype is its largest number; where an argument is not
        finite, the ends are NaN.
    """
    info = torch.finfo(target.dtype)
    # e^s can overflow where target e^s does not: multiply by e^(s/2) twice.
    extreme = log_scales.abs() > EXP_RANGE[target.dtype]
    half = torch.exp(0.5 * log_scales)
    first = torch.where(extreme, half, torch.exp(log_scales))
    second = torch.where(extreme, half, 1.0)
    target = target.unsqueeze(-1)
    step = torch.where(target == 0, 0.0, target * first * second)
    unit = target.abs().clamp(min=1)
    # The last term is for scales that underflow.
    slack = 8 * info.eps * (means.abs() + unit * first * second + unit * info.tiny)

    roots = (means + step).nan_to_num().clamp(info.min, info.max)
    lower = (means + step - slack).nan_to_num(info.min, info.max, info.min).amin(-1)
    upper = (means + step + slack).nan_to_num(info.max, info.max, info.min).amax(-1)
    start = (torch.softmax(logits, -1) * roots).sum(-1)
    start = torch.where(torch.isfinite(start), start, lower / 2 + upper / 2)
    poison = _poison(target.squeeze(-1), logits, means, log_scales)
    resolution = info.eps / 4 * torch.maximum(means.abs(), (first * second).clamp(max=info.max))
    return lower + poison, upper + poison, start, resolution.amin(-1)
