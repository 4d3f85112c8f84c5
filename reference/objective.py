"""What is maximized: the bound on log P(x), and its parts. Everything in nats per example."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from reference.bijectors.checks import sum_per_example

HALF_LOG_TWO_PI = 0.5 * float(np.log(2.0 * np.pi))


def log_normal(z: ArrayLike) -> np.ndarray:
    """Log N(z; 0, I) = sum of -z^2/2 - log(2 pi)/2 over all axes but the first: (B,)."""
    z = np.asarray(z, dtype=np.float64)
    if z.ndim < 1:
        raise ValueError("log_normal needs an array with a batch axis, got a number")
    # The constant is added once, times the number of scalars: no rounding of its own in each.
    scalars = int(np.prod(z.shape[1:]))
    with np.errstate(over="ignore"):  # z^2 beyond float64: the density is 0, its logarithm -inf
        return -0.5 * sum_per_example(z * z) - scalars * HALF_LOG_TWO_PI


@dataclass(frozen=True, eq=False)
class Elbo:
    """One-sample bound: log P(x) >= E[log p(z) + log|det dz/dv| - log q(u|x)], v = x + u.

    Section 3.1 of the paper. All fields are (batch,), in nats.

    Attributes:
        log_q: log q(u|x), of the dequantization noise.
        log_det: log|det dz/dv| of the flow.
        log_prior: log N(z; 0, I).
    """

    log_q: np.ndarray
    log_det: np.ndarray
    log_prior: np.ndarray

    @property
    def total(self) -> np.ndarray:
        """log_prior + log_det - log_q."""
        return self.log_prior + self.log_det - self.log_q


def importance_weighted_bound(log_weights: ArrayLike) -> np.ndarray:
    """Log mean_i exp(log_weights_i) over the first axis: (n, B) -> (B,).

    With log_weights the `Elbo.total` of n independent noises this bounds log P(x) more and more
    tightly as n grows (Burda et al., 2016); with n = 1 it is the ELBO itself.
    """
    log_weights = np.asarray(log_weights, dtype=np.float64)
    if log_weights.ndim < 1 or log_weights.shape[0] == 0:
        raise ValueError(
            f"importance_weighted_bound needs at least one sample, got shape {log_weights.shape}"
        )
    top = log_weights.max(axis=0)
    anchor = np.where(np.isinf(top), 0.0, top)  # inf - inf would turn a clear answer into NaN
    with np.errstate(divide="ignore", over="ignore"):  # no weight at all: log 0; an infinite one
        return anchor + np.log(np.exp(log_weights - anchor).mean(axis=0))


def bits_per_dim(log_prob: ArrayLike, dims: int) -> np.ndarray:
    """-log_prob / (dims ln 2), dims = C H W, whatever the number of levels."""
    if dims < 1:
        raise ValueError(f"bits_per_dim needs at least 1 dimension, got {dims}")
    return -np.asarray(log_prob, dtype=np.float64) / (dims * np.log(2.0))
