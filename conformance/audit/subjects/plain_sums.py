"""Three log-sum-exps of the mixture in their plain form, in the dtype of the arrays."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

MAX_ITERATIONS = 200


class PlainSums:
    """Compute log F, log(1 - F) and log f of a mixture, and gradients through them.

    Args:
        x: Points, of any shape S.
        logits: Logits of the weights, S + (K,).
        means: Means, S + (K,).
        log_scales: Logarithms of the scales, S + (K,).
    """

    def __init__(
        self, x: np.ndarray, logits: np.ndarray, means: np.ndarray, log_scales: np.ndarray
    ) -> None:
        self.x, self.logits, self.means, self.log_scales = x, logits, means, log_scales
        lw = logits - log_sum_exp(logits)[..., None]
        self.weights = np.exp(lw)
        self.rate = np.exp(-log_scales)
        self.z = (x[..., None] - means) * self.rate
        left, right = log_sigmoid(self.z), log_sigmoid(-self.z)
        self._below, self._above, self._density = lw + left, lw + right, lw + left + right
        self._density = self._density - log_scales
        self.log_cdf = log_sum_exp(self._below)
        self.log_survival = log_sum_exp(self._above)
        self.log_density = log_sum_exp(self._density)

    def gradients(
        self, by_log_cdf: np.ndarray, by_log_survival: np.ndarray, by_log_density: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Return gradients by x and the parameters, given those by the three sums, each S."""
        a = np.exp(self._below - self.log_cdf[..., None])
        b = np.exp(self._above - self.log_survival[..., None])
        d = np.exp(self._density - self.log_density[..., None])
        a, b, d = (
            g[..., None] * share
            for g, share in ((by_log_cdf, a), (by_log_survival, b), (by_log_density, d))
        )
        low, high = sigmoid(self.z), sigmoid(-self.z)
        by_z = a * high - b * low + d * (high - low)
        by_lw = a + b + d
        by_difference = by_z * self.rate
        return {
            "x": by_difference.sum(-1),
            "logits": by_lw - self.weights * by_lw.sum(-1, keepdims=True),
            "means": -by_difference,
            "log_scales": -by_z * self.z - d,
        }


def bisect(
    function: Callable[[np.ndarray], np.ndarray],
    target: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
) -> np.ndarray:
    """Bisect until no number of the dtype lies inside any bracket; return the middle."""
    for _ in range(MAX_ITERATIONS):
        middle = lower / 2 + upper / 2
        if ((middle == lower) | (middle == upper)).all():
            break
        below = function(middle) < target
        lower, upper = np.where(below, middle, lower), np.where(below, upper, middle)
    return lower / 2 + upper / 2


def log_sum_exp(terms: np.ndarray) -> np.ndarray:
    """Return log sum exp over the last axis, shifted by its maximum."""
    top = terms.max(-1)
    return top + np.log(np.exp(terms - top[..., None]).sum(-1))


def log_sigmoid(z: np.ndarray) -> np.ndarray:
    """Return -log(1 + e^-z)."""
    return np.minimum(z, 0) - np.log1p(np.exp(-np.abs(z)))


def sigmoid(z: np.ndarray) -> np.ndarray:
    """Return 1 / (1 + e^-z) without overflow."""
    e = np.exp(-np.abs(z))
    return np.where(z > 0, 1 / (1 + e), e / (1 + e))
