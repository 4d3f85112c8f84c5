"""Log-determinants (batch,) that several bijectors share."""

from __future__ import annotations

import numpy as np


def no_log_det(x: np.ndarray) -> np.ndarray:
    """Return the log-determinant of a permutation: zeros (batch,)."""
    return np.zeros(len(x))


def sum_per_example(terms: np.ndarray) -> np.ndarray:
    """Sum over all axes but the first: (B, ...) -> (B,)."""
    return terms.sum(axis=tuple(range(1, terms.ndim)))
