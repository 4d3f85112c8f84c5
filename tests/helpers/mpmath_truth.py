"""The paper's scalar maps in mpmath, by their definitions, and errors measured against them.

With a hundred digits and an unbounded exponent the plain formulas are accurate, in the tails too.
Arguments are float64 numbers, converted exactly.
"""

from __future__ import annotations

import numpy as np
from mpmath import mp, mpf

DIGITS = 100
EPS = float(np.finfo(np.float64).eps)


def exact(value):
    return mpf(float(value))


def sigmoid(x):
    return 1 / (1 + mp.exp(-x))


def log_sigmoid_slope(x):
    return mp.log(sigmoid(x)) + mp.log(sigmoid(-x))


def logit(p, q):
    """Compute log p - log q for q = 1 - p, passed separately to keep all its digits."""
    return mp.log(p) - mp.log(q)


def data_logit(x, levels, margin):
    """Return (y, log dy/dx)."""
    x, margin = exact(x), exact(margin)
    p = margin + (1 - 2 * margin) * x / levels
    return logit(p, 1 - p), mp.log((1 - 2 * margin) / levels) - mp.log(p) - mp.log(1 - p)


def data_logit_inverse(y, levels, margin):
    """Return (x, log dx/dy)."""
    y, margin = exact(y), exact(margin)
    span = (1 - 2 * margin) / levels
    return (sigmoid(y) - margin) / span, log_sigmoid_slope(y) - mp.log(span)


def mixture_logistic(x, logits, means, log_scales):
    """Return (logit F(x), its log-derivative) for one scalar x and K components."""
    x = exact(x)
    weights = [mp.exp(exact(v)) for v in logits]
    total = mp.fsum(weights)
    cdf = survival = density = mpf(0)
    for weight, mean, log_scale in zip(weights, means, log_scales, strict=True):
        rate = mp.exp(-exact(log_scale))
        z = (x - exact(mean)) * rate
        low, high = sigmoid(z), sigmoid(-z)
        weight = weight / total
        cdf += weight * low
        survival += weight * high
        density += weight * rate * low * high
    return mp.log(cdf) - mp.log(survival), mp.log(density / cdf / survival)


def normal_mass(low, high, mean, scale):
    """Integrate exp(-((u - mean) / scale)^2 / 2) over [low, high], from the smaller tail."""
    a, b = sorted(((end - mean) / scale / mp.sqrt(2) for end in (low, high)), key=abs)
    sign = 1 if b > a else -1
    return scale * mp.sqrt(mp.pi / 2) * (mp.erfc(sign * a) - mp.erfc(sign * b))


def errors_in_u(got, want):
    """Return |got - want| in units of eps max(1, |want|), for mpmath `want`; inf for a NaN."""
    errors = []
    for g, w in zip(np.ravel(got), want, strict=True):
        if not np.isfinite(g):
            errors.append(np.inf)
        else:
            errors.append(float(abs(exact(g) - w) / (EPS * max(mpf(1), abs(w)))))
    return np.array(errors)
