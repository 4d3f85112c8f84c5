"""The mixture's three log-sum-exps, as anyone would write them first, in the arrays' own dtype."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

MAX_ITERATIONS = 200


class PlainSums:
    """log F, log(1 - F) and log f of a mixture, and gradients through them.

    Args:
        x: any shape S.
        logits: S + (K,).
        means: likewise.
        log_scales: likewise.
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
        """Gradients by x, logits, means and log-scales from those by the three sums, all S."""
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
    """Middle of the bracket after halving it as often as the dtype can tell."""
    for _ in range(MAX_ITERATIONS):
        middle = lower / 2 + upper / 2
        if ((middle == lower) | (middle == upper)).all():
            break
        below = function(middle) < target
        lower, upper = np.where(below, middle, lower), np.where(below, upper, middle)
    return lower / 2 + upper / 2


def log_sum_exp(terms: np.ndarray) -> np.ndarray:
    """Over the last axis, shifted by its maximum."""
    top = terms.max(-1)
    return top + np.log(np.exp(terms - top[..., None]).sum(-1))


def log_sigmoid(z: np.ndarray) -> np.ndarray:
    """-log(1 + e^-z)."""
    return np.minimum(z, 0) - np.log1p(np.exp(-np.abs(z)))


def sigmoid(z: np.ndarray) -> np.ndarray:
    """1 / (1 + e^-z), without overflow."""
    e = np.exp(-np.abs(z))
    return np.where(z > 0, 1 / (1 + e), e / (1 + e))
