"""The normal distribution with mean m and scale s, truncated to [0, 1): density and quantiles.

    q(u) = exp(-h(u)) / I(0, 1)        h(u) = ((u - m)^2 - (p - m)^2) / (2 s^2)
    I(a, b) = integral of exp(-h) over [a, b]

The point p of [0, 1] that is nearest to m, where the density is largest, is taken as the origin of
h: far from the mean the squares themselves would cancel.

Source: the truncation of a normal variable to an interval, as in Robert 1995.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

HALVINGS = 64
ROOT_HALF_PI = float(np.sqrt(0.5 * np.pi))
ROOT_TWO = float(np.sqrt(2.0))
LARGEST = 1.0 - 2.0**-53
"""The largest number below 1."""
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)
NODES, WEIGHTS = 0.5 * (_NODES + 1.0), 0.5 * _WEIGHTS
"""Gauss-Legendre quadrature on [0, 1]."""


def log_density(u: ArrayLike, mean: ArrayLike, log_scale: ArrayLike) -> np.ndarray:
    """Compute log q(u), element by element; -inf outside [0, 1), NaN where an argument is.

    Args:
        u: points.
        mean: m, of any size; the density is monotone on [0, 1) if m is outside.
        log_scale: log s.
    """
    u, mean, scale = _arrays(u, mean, log_scale)
    with np.errstate(all="ignore"):
        inside = -_height(u, mean, scale) - _log_integral(0.0, 1.0, mean, scale)
        log_q = np.where((u >= 0.0) & (u < 1.0), inside, -np.inf)
        return np.where(np.isnan(u + mean) | _unusable(mean, scale), np.nan, log_q)


def quantile(v: ArrayLike, mean: ArrayLike, log_scale: ArrayLike) -> np.ndarray:
    """Compute the u in [0, 1) below which there is the mass v, element by element.

    It is found by bisection of logit of the mass, which resolves both tails.

    Args:
        v: probabilities in [0, 1); elsewhere the result is NaN.
        mean: m, of any size.
        log_scale: log s.
    """
    v, mean, scale = _arrays(v, mean, log_scale)
    with np.errstate(all="ignore"):
        target = np.log(v) - np.log1p(-v)
        low, high = np.zeros_like(v), np.ones_like(v)
        for _ in range(HALVINGS):
            middle = 0.5 * (low + high)
            below = _logit_mass(middle, mean, scale) < target
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        u = np.where(v == 0.0, 0.0, np.minimum(0.5 * (low + high), LARGEST))
        known = (v >= 0.0) & (v < 1.0) & ~_unusable(mean, scale)
        return np.where(known, u, np.nan)


def _arrays(*values: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return points, means and scales of one shape."""
    points, mean, log_scale = np.broadcast_arrays(
        *(np.asarray(value, dtype=np.float64) for value in values)
    )
    with np.errstate(over="ignore"):
        return points, mean, np.exp(log_scale)


def _unusable(mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return ~(np.isfinite(mean) & np.isfinite(scale) & (scale > 0.0))


def _height(u: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Compute h(u) >= 0."""
    nearest = np.clip(mean, 0.0, 1.0)
    return (u - nearest) / scale * ((u + nearest - 2.0 * mean) / scale) / 2.0


def _logit_mass(u: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Compute log I(0, u) - log I(u, 1)."""
    below, above = (
        _log_integral(low, high, mean, scale) - _height(np.clip(mean, low, high), mean, scale)
        for low, high in ((0.0, u), (u, 1.0))
    )
    return below - above


def _log_integral(
    low: np.ndarray | float, high: np.ndarray | float, mean: np.ndarray, scale: np.ndarray
) -> np.ndarray:
    """Compute the log of the integral over [low, high] of the density over its maximum there.

    With a = distance of the mean from the interval / s, and w = (high - low) / s, it is

        s sqrt(pi/2) (erf((high - m) / (s sqrt 2)) + erf((m - low) / (s sqrt 2)))      mean inside
        s sqrt(pi/2) (erfcx(a / sqrt 2) - exp(-w (a + w/2)) erfcx((a + w) / sqrt 2))   outside

    Nothing cancels inside; outside, where the terms are close, quadrature takes their place.
    """
    a = np.maximum(np.maximum(low - mean, mean - high), 0.0) / scale
    w = (high - low) / scale
    both = special.erf((high - mean) / scale / ROOT_TWO) + special.erf(
        (mean - low) / scale / ROOT_TWO
    )
    drop = w * (a + 0.5 * w)
    tails = special.erfcx(a / ROOT_TWO) - np.exp(-drop) * special.erfcx((a + w) / ROOT_TWO)
    part = NODES * w[..., None]
    flat = np.exp(-part * (a[..., None] + 0.5 * part)) @ WEIGHTS
    integral = np.where(a == 0.0, scale * ROOT_HALF_PI * both, scale * ROOT_HALF_PI * tails)
    return np.log(np.where((a > 0.0) & (drop < 0.5), (high - low) * flat, integral))
