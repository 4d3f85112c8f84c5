"""The normal distribution with mean m and scale s, truncated to [0, 1): density and quantiles.

    q(u) = exp(-h(u)) / I              h(u) = ((u - m)^2 - (p - m)^2) / (2 s^2)
    I = integral of exp(-h) over [0, 1]

The point p of [0, 1] that is nearest to m, where the density is largest, is taken as the origin of
h: far from the mean the squares themselves would cancel.

Numerics: float64, whatever the dtype of the arguments. Integrals over parts where the density
hardly falls are sums of Gauss-Legendre quadrature, since differences of tails would cancel there:
quantiles have an absolute error of a few ulps of 1 at any mean and scale.

Source: the truncation of a normal variable to an interval, as in Robert 1995.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

ROOT_HALF_PI = math.sqrt(0.5 * math.pi)
ROOT_TWO = math.sqrt(2.0)
NODES, WEIGHTS = (values.tolist() for values in np.polynomial.legendre.leggauss(8))
"""Gauss-Legendre quadrature on [-1, 1], exact in float64 for a density that falls to e^-1/2."""
SMALL_DROP = 0.5
"""Largest exponent t (a + t/2) that is integrated by quadrature."""
WIDE = 2.0
"""Smallest scale of a mean in [0, 1] whose quantiles are found from an end of the interval."""
HALLEY_STEPS = 3
"""Steps after a start that is at most 30 % too large: the third is within rounding."""
FARTHEST = 1e150
"""Largest distance of the mean in units of s: its square is finite."""
SMALLEST = 5e-324
"""The smallest positive number."""
LARGEST = 1.0 - 2.0**-53
"""The largest number below 1."""


def log_density(u: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """Compute log q(u), element by element; -inf outside [0, 1), NaN where an argument is.

    Args:
        u: points.
        mean: m, of any size; the density is monotone on [0, 1) if m is outside.
        log_scale: log s.
    """
    point, m, s = u.double(), mean.double(), log_scale.double().exp()
    nearest = m.clamp(0.0, 1.0)
    height = (point - nearest) / s * ((point + nearest - 2.0 * m) / s) / 2.0
    inside = -height - _log_integral(m, s)
    log_q = torch.where((point >= 0.0) & (point < 1.0), inside, -torch.inf)
    unknown = (point + m).isnan() | ~_usable(m, s)
    return log_q.masked_fill(unknown, torch.nan).to(u.dtype)


def quantile(v: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """Compute the u in [0, 1) below which there is the mass v, element by element.

    It is differentiable in all arguments, by the implicit function theorem.

    Args:
        v: probabilities in [0, 1); elsewhere the result is NaN.
        mean: m, of any size.
        log_scale: log s.
    """
    u = _Quantile.apply(v.double(), mean.double(), log_scale.double())
    return below_one(u, v.dtype)


def below_one(u: Tensor, dtype: torch.dtype) -> Tensor:
    """Convert numbers in [0, 1) to another dtype without rounding them up to 1."""
    one = torch.ones((), dtype=dtype, device=u.device)
    return torch.minimum(u.to(dtype), torch.nextafter(one, one - 1))


def _usable(mean: Tensor, scale: Tensor) -> Tensor:
    return mean.isfinite() & scale.isfinite() & (scale > 0.0)


def _log_integral(m: Tensor, s: Tensor) -> Tensor:
    """Compute log I: for a mean in [0, 1] a sum of error functions, else by its tails."""
    a = (_distance(m).clamp(min=0.0) / s).clamp(max=FARTHEST)
    both = torch.erf((1.0 - m) / s / ROOT_TWO) + torch.erf(m / s / ROOT_TWO)
    # Of the unused one the logarithm may be infinite, and its gradient would be NaN.
    return torch.log(s * torch.where(a == 0.0, ROOT_HALF_PI * both, _mass(1.0 / s, a)))


def _mass(t: Tensor, a: Tensor) -> Tensor:
    """Integrate exp(-x (a + x/2)) over [0, t], to a few ulps of the result, for a >= 0."""
    drop = t * (a + 0.5 * t)
    tails = _erfcx(a) - torch.exp(-drop) * _erfcx(a + t)
    return torch.where(drop < SMALL_DROP, _flat_mass(t, a), ROOT_HALF_PI * tails)


def _flat_mass(t: Tensor, a: Tensor) -> Tensor:
    """Integrate exp(-x (a + x/2)) over [0, t] by quadrature, for an exponent below SMALL_DROP."""
    half = 0.5 * t
    total = torch.zeros_like(t)
    for node, weight in zip(NODES, WEIGHTS, strict=True):
        x = half * (1.0 + node)
        total = total + weight * torch.exp(-x * (a + 0.5 * x))
    return half * total


def _distance(m: Tensor) -> Tensor:
    """Return the distance of the mean from the nearer end of [0, 1], negative if inside."""
    return torch.maximum(-m, m - 1.0)


def _erfcx(x: Tensor) -> Tensor:
    return torch.special.erfcx(x / ROOT_TWO)


class _Quantile(torch.autograd.Function):
    """u(v, m, log s) in float64."""

    @staticmethod
    def forward(ctx: Any, v: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
        s = log_scale.exp()
        is_mirrored = mean > 0.5
        near, far = torch.where(is_mirrored, 1.0 - v, v), torch.where(is_mirrored, v, 1.0 - v)
        t = _from_the_near_end(near, far, (_distance(mean) / s).clamp(max=FARTHEST), 1.0 / s)
        from_an_end = torch.where(is_mirrored, 1.0 - s * t, s * t)
        is_inside = (mean >= 0.0) & (mean <= 1.0) & (s < WIDE)
        u = torch.where(is_inside, mean + s * _of_mean_inside(v, mean, s), from_an_end)
        known = (v >= 0.0) & (v < 1.0) & _usable(mean, s)
        u = torch.where(v > 0.0, u.clamp(0.0, LARGEST), 0.0).masked_fill(~known, torch.nan)
        ctx.save_for_backward(v, u, mean, log_scale)
        return u

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        """With x = (u - m) / s, Phi(x) = (1 - v) Phi(a) + v Phi(b), a = -m / s, b = (1 - m) / s.

        Its derivatives, divided by the density at x, are those of x. They are differentiable
        again, u as the function itself.
        """
        v, u, mean, log_scale = ctx.saved_tensors
        s = log_scale.exp()
        a, b, x = -mean / s, (1.0 - mean) / s, (u - mean) / s
        from_a, to_b = u / s, (1.0 - u) / s
        at_a = (1.0 - v) * torch.exp(from_a * (a + 0.5 * from_a))
        at_b = torch.exp(-to_b * (b - 0.5 * to_b))
        at_b = torch.where(v > 0.0, v * at_b, 0.0)  # at v = 0 it may be 0 times infinity
        by_mean = 1.0 - at_a - at_b
        by_log_scale = s * (x - a * at_a - b * at_b)
        by_v = None
        if ctx.needs_input_grad[0]:
            by_v = grad * torch.exp(-log_density(u, mean, log_scale))
        return by_v, grad * by_mean, grad * by_log_scale


def _of_mean_inside(v: Tensor, m: Tensor, s: Tensor) -> Tensor:
    """Return x = (u - m) / s for a mean in [0, 1], from the nearer of its two tails."""
    # torch.special.ndtr is 1 + erf, which cancels in the lower tail.
    below, above = (0.5 * torch.erfc(end / s / ROOT_TWO) for end in (m, 1.0 - m))
    mass = 0.5 * (torch.erf((1.0 - m) / s / ROOT_TWO) + torch.erf(m / s / ROOT_TWO))
    lower, upper = below + v * mass, above + (1.0 - v) * mass
    return torch.where(lower < upper, torch.special.ndtri(lower), -torch.special.ndtri(upper))


def _from_the_near_end(near: Tensor, far: Tensor, a: Tensor, w: Tensor) -> Tensor:
    """Return t of [0, w] with the mass `near` of exp(-t (a + t/2)) below, and `far` above it.

    With the tail S(t) = exp(-t (a + t/2)) erfcx(a + t) / erfcx(a), where erfcx takes its argument
    over sqrt 2, it solves -log S(t) = -log(1 - near (1 - S(w))) by Halley's method. Its slope is
    the hazard h(a + t), and h' = h (h - a - t). The mean may be in [0, 1], at a >= -1/4.
    """
    at_end = _erfcx(a)
    rate = at_end * ROOT_HALF_PI  # 1 / the slope at t = 0
    within = _mass(w, a) / rate
    beyond = torch.exp(-w * (a + 0.5 * w)) * _erfcx(a + w) / at_end
    below, above = near * within, (beyond + far * within).clamp(min=SMALLEST)
    target = torch.where(below < 0.5, -torch.log1p(-below), -torch.log(above))
    t = torch.minimum(target * rate, 2.0 * target / (a + torch.sqrt(a * a + 2.0 * target)))
    t = torch.where(target > 0.0, t, 0.0)
    for _ in range(HALLEY_STEPS):
        x = a + t
        at_x = _erfcx(x)
        step = (_minus_log_tail(t, a, at_end / at_x, rate) - target) * at_x * ROOT_HALF_PI
        t = (t - step / (1.0 - 0.5 * step * (1.0 / (at_x * ROOT_HALF_PI) - x))).clamp(min=0.0)
    return torch.minimum(t, w)


def _minus_log_tail(t: Tensor, a: Tensor, ratio: Tensor, rate: Tensor) -> Tensor:
    """Compute -log S(t) from erfcx(a) / erfcx(a + t) and 1 / h(a), relatively precise."""
    drop = t * (a + 0.5 * t)
    flat = -torch.log1p(-_flat_mass(t, a) / rate)
    return torch.where(drop < SMALL_DROP, flat, drop + torch.log(ratio))
