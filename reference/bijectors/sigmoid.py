"""The logistic sigmoid: last layer of the variational dequantizer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from reference.bijectors import Bijector
from reference.bijectors.checks import as_images, sum_per_example


def sigmoid(y: np.ndarray) -> np.ndarray:
    """1 / (1 + e^-y), with full relative precision in both tails."""
    e = np.exp(-np.abs(y))
    return np.where(y < 0, e, 1.0) / (1.0 + e)


def log_sigmoid_slope(y: np.ndarray) -> np.ndarray:
    """Logarithm of sigmoid'(y): log sigmoid(y) + log sigmoid(-y) = -|y| - 2 log(1 + e^-|y|)."""
    a = np.abs(y)
    return -a - 2.0 * np.log1p(np.exp(-a))


@dataclass(frozen=True, eq=False)
class Sigmoid(Bijector):
    """y = 1 / (1 + e^-x), from the real line onto (0, 1).

    The inverse is the logit. Its input lies in [0, 1]: at 0 and 1, where rounding may bring the
    forward's output, it is infinite, as is its log-det; outside it is NaN.
    """

    def forward(
        self, x: ArrayLike, context: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """(y, sum of log sigmoid'(x))."""
        x = as_images(x, self)
        return sigmoid(x), sum_per_example(log_sigmoid_slope(x))

    def inverse(
        self, y: ArrayLike, context: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """(log y - log(1 - y), sum of -log y - log(1 - y))."""
        y = as_images(y, self)
        # log 0 = -inf is meant at the ends of [0, 1], and log of a negative number is the NaN
        # that stands for "outside".
        with np.errstate(divide="ignore", invalid="ignore"):
            log_y, log_not_y = np.log(y), np.log1p(-y)
        return log_y - log_not_y, sum_per_example(-log_y - log_not_y)
