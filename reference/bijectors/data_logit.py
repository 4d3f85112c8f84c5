"""From pixel values to the real line: the first layer of a flow."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from reference.bijectors import Bijector
from reference.bijectors.checks import as_images, sum_per_example
from reference.bijectors.sigmoid import log_sigmoid_slope, sigmoid


@dataclass(frozen=True, eq=False)
class DataLogit(Bijector):
    """y = logit(p), p = margin + (1 - 2 margin) x / levels.

    Attributes:
        levels: number of pixel values M (256, 32, 8, ...); dequantized pixels lie in [0, M].
        margin: distance that p keeps from 0 and 1; 0.05 in the released code.

    x is any number with 0 < p < 1 (a sampled pixel may fall a little outside [0, M]); beyond,
    y is infinite (p = 0 or 1) or NaN.

    Numerics: 1 - p is margin + (1 - 2 margin) (levels - x) / levels, not a difference from 1, and
    the inverse measures x from the nearer end of the scale, so both ends are as good as each
    other.

    Raises:
        ValueError: if levels < 1 or the margin is not in (0, 0.5).
    """

    levels: int
    margin: float = 0.05

    def __post_init__(self) -> None:
        if not self.levels >= 1:
            raise ValueError(f"DataLogit needs at least 1 level, got {self.levels}")
        if not 0.0 < self.margin < 0.5:
            raise ValueError(f"DataLogit needs a margin between 0 and 0.5, got {self.margin}")

    @property
    def _span(self) -> float:
        return 1.0 - 2.0 * self.margin

    def forward(
        self, x: ArrayLike, context: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """(y, log_det) with dy/dx = (1 - 2 margin) / (levels p (1 - p))."""
        x = as_images(x, self)
        p = self.margin + self._span * (x / self.levels)
        q = self.margin + self._span * ((self.levels - x) / self.levels)  # 1 - p
        # Outside the domain the logarithms are -inf or NaN, and are meant to be.
        with np.errstate(divide="ignore", invalid="ignore"):
            y = np.log(p) - np.log(q)
            # One logarithm, not three that cancel: log(1 / levels) is about -5.5.
            log_slope = -np.log(p * q * (self.levels / self._span))
        return y, sum_per_example(log_slope)

    def inverse(
        self, y: ArrayLike, context: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """(x, log_det) with x = levels (sigmoid(y) - margin) / (1 - 2 margin)."""
        y = as_images(y, self)
        # sigmoid(-|y|) <= 1/2 is p or 1 - p, whichever is smaller, with all its digits.
        from_end = self.levels * ((sigmoid(-np.abs(y)) - self.margin) / self._span)
        x = np.where(y <= 0, from_end, self.levels - from_end)
        return x, sum_per_example(log_sigmoid_slope(y) - np.log(self._span / self.levels))
