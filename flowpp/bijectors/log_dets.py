"""Log-determinants `(batch,)` that several bijectors share."""

from __future__ import annotations

from torch import Tensor


def no_log_det(x: Tensor) -> Tensor:
    """Return the log-determinant of a permutation: zeros `(batch,)`."""
    return x.new_zeros(x.shape[0])


def sum_per_example(terms: Tensor) -> Tensor:
    """Sum over all axes but the first: `(B, ...) -> (B,)`."""
    return terms.flatten(1).sum(1)
