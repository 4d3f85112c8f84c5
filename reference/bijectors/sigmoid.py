"""Logistic sigmoid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reference.bijectors.bijector import Array, Bijector
from reference.bijectors.log_dets import sum_per_example


@dataclass(frozen=True, eq=False)
class Sigmoid(Bijector):
    """y = 1 / (1 + exp(-x)), from the real line onto (0, 1); its inverse is the logit.

    Numerics: the forward log-determinant is computed from x, so it stays accurate where y has
    rounded to 0 or 1. The inverse at exactly 0 or 1 is -inf or +inf, and its log-determinant
    +inf: the true limits. Outside [0, 1] it is NaN.
    """

    def forward(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        return sigmoid(x), sum_per_example(log_sigmoid_slope(x))

    def inverse(self, y: Array, context: Array | None = None) -> tuple[Array, Array]:
        # log 0 = -inf at the ends of [0, 1], and NaN outside, are the intended values.
        with np.errstate(divide="ignore", invalid="ignore"):
            log_y, log_rest = np.log(y), np.log1p(-y)
        return log_y - log_rest, sum_per_example(-log_y - log_rest)


def sigmoid(x: Array) -> Array:
    """Compute 1 / (1 + e^-x), with full relative precision in both tails."""
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1.0) / (1.0 + e)


def log_sigmoid_slope(x: Array) -> Array:
    """Compute log sigmoid'(x) = log sigmoid(x) + log sigmoid(-x) = -|x| - 2 log(1 + e^-|x|)."""
    a = np.abs(x)
    return -a - 2.0 * np.log1p(np.exp(-a))
