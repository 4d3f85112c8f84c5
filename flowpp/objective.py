"""Training objective and reported bounds, in nats per example; bits per dimension."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


def log_normal(z: Tensor) -> Tensor:
    """Compute log N(z; 0, I), summed over all axes but the batch: `(B, ...) -> (B,)`."""
    flat = z.flatten(1)
    return -0.5 * flat.square().sum(1) - 0.5 * math.log(2 * math.pi) * flat.shape[1]


@dataclass(frozen=True)
class Elbo:
    """Terms of the one-sample bound on log P(x), each `(B,)`, in nats.

    Args:
        log_q: log q(u|x); in an augmented model log q(u|x) + log q(e|x + u).
        log_det: log|det dz/d(x + u)|; in an augmented model log|det dz/d(x + u, e)|.
        log_prior: log N(z; 0, I).

    Source: Flow++ eq. 12.
    """

    log_q: Tensor
    log_det: Tensor
    log_prior: Tensor

    @property
    def total(self) -> Tensor:
        """log_prior + log_det - log_q, whose expectation over u is at most log P(x)."""
        return self.log_prior + self.log_det - self.log_q


def importance_weighted_bound(log_weights: Tensor) -> Tensor:
    """Compute log mean_n exp(log_weights) over the first axis: `(n, B) -> (B,)`, in nats.

    With the `Elbo.total` of n independent noises as log-weights it is a bound on log P(x) that
    tightens as n grows; for n = 1 it is the ELBO.

    Source: Burda, Grosse and Salakhutdinov 2016, eq. 8; Flow++ section 4.
    """
    if log_weights.ndim != 2 or not len(log_weights):
        raise ValueError(
            "importance_weighted_bound needs shape (samples, batch) with at least 1 sample, "
            f"got {tuple(log_weights.shape)}"
        )
    return torch.logsumexp(log_weights, dim=0) - math.log(len(log_weights))


def bits_per_dim(log_prob: Tensor, dims: int) -> Tensor:
    """Convert log P(x) in nats to bits per dimension: -log_prob / (dims ln 2), dims = C*H*W.

    Images are integers, so the number of levels does not enter.

    Raises:
        TypeError: an `Elbo` instead of its total, or dims that are not an integer.
        ValueError: fewer than 1 dimension.
    """
    if isinstance(log_prob, Elbo):
        raise TypeError("log_prob must be a tensor, got an Elbo: use its total")
    if not hasattr(dims, "__index__"):
        raise TypeError(f"dims must be an integer, the product of the image's sides, got {dims!r}")
    if dims < 1:
        raise ValueError(f"bits_per_dim needs at least 1 dimension, got {dims}")
    return -log_prob / (dims * math.log(2))
