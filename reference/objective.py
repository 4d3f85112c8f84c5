"""Training objective and reported bounds, in nats per example; bits per dimension."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from reference.bijectors.log_dets import sum_per_example

HALF_LOG_TWO_PI = 0.5 * float(np.log(2.0 * np.pi))


def log_normal(z: ArrayLike) -> np.ndarray:
    """Compute log N(z; 0, I), summed over all axes but the batch: (B, ...) -> (B,)."""
    z = np.asarray(z, dtype=np.float64)
    if z.ndim < 1:
        raise ValueError("log_normal needs an array with a batch axis, got a number")
    # The constant is multiplied by the number of scalars and added once, so it is rounded once.
    scalars = int(np.prod(z.shape[1:]))
    with np.errstate(over="ignore"):  # z^2 beyond float64: the density is 0, its logarithm -inf
        return -0.5 * sum_per_example(z * z) - scalars * HALF_LOG_TWO_PI


@dataclass(frozen=True, eq=False)
class Elbo:
    """Terms of the one-sample bound on log P(x), each (B,), in nats.

    Attributes:
        log_q: log q(u|x); in an augmented model log q(u|x) + log q(e|x + u).
        log_det: log|det dz/d(x + u)|; in an augmented model log|det dz/d(x + u, e)|.
        log_prior: log N(z; 0, I).

    Source: Flow++ eq. 12.
    """

    log_q: np.ndarray
    log_det: np.ndarray
    log_prior: np.ndarray

    @property
    def total(self) -> np.ndarray:
        """log_prior + log_det - log_q, whose expectation over u is at most log P(x)."""
        return self.log_prior + self.log_det - self.log_q


def importance_weighted_bound(log_weights: ArrayLike) -> np.ndarray:
    """Compute log mean_n exp(log_weights) over the first axis: (n, B) -> (B,), in nats.

    With the `Elbo.total` of n independent noises as log-weights it is a bound on log P(x) that
    tightens as n grows; for n = 1 it is the ELBO.

    Source: Burda, Grosse and Salakhutdinov 2016, eq. 8; Flow++ section 4.
    """
    log_weights = np.asarray(log_weights, dtype=np.float64)
    if log_weights.ndim < 1 or log_weights.shape[0] == 0:
        raise ValueError(
            f"importance_weighted_bound needs at least 1 sample, got shape {log_weights.shape}"
        )
    top = log_weights.max(axis=0)
    anchor = np.where(np.isinf(top), 0.0, top)  # inf - inf would be NaN
    # log 0 where all weights are 0; overflow where one is infinite.
    with np.errstate(divide="ignore", over="ignore"):
        return anchor + np.log(np.exp(log_weights - anchor).mean(axis=0))


def bits_per_dim(log_prob: ArrayLike, dims: int) -> np.ndarray:
    """Convert log P(x) in nats to bits per dimension: -log_prob / (dims ln 2), dims = C*H*W.

    Images are integers, so the number of levels does not enter.
    """
    if dims < 1:
        raise ValueError(f"bits_per_dim needs at least 1 dimension, got {dims}")
    return -np.asarray(log_prob, dtype=np.float64) / (dims * np.log(2.0))
