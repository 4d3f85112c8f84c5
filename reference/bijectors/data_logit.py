"""Logit of scaled pixel values: from [0, levels] to the real line."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reference.bijectors.bijector import Array, Bijector
from reference.bijectors.log_dets import sum_per_example
from reference.bijectors.sigmoid import log_sigmoid_slope, sigmoid


@dataclass(frozen=True, eq=False)
class DataLogit(Bijector):
    """y = logit(p), p = margin + (1 - 2 margin) x / levels, for x in [0, levels].

    A sampled pixel may lie slightly outside [0, levels], as long as 0 < p < 1; beyond, y is
    infinite (p = 0 or 1) or NaN.

    Attributes:
        levels: number M of values of a channel (256, 32, 8, 17, ...).
        margin: distance of p from 0 and 1 at the ends, in (0, 1/2); 0.05 in the released code.

    Raises:
        ValueError: fewer than 1 level, or a margin outside (0, 1/2).

    Numerics: 1 - p is margin + (1 - 2 margin) (levels - x) / levels, not a difference from 1, and
    the inverse measures x from the nearer end of the scale, so that both ends are equally
    accurate.

    Source: Dinh, Sohl-Dickstein and Bengio 2017, section 4.1; Flow++'s released code.
    """

    levels: int
    margin: float = 0.05

    def __post_init__(self) -> None:
        if not self.levels >= 1:
            raise ValueError(f"DataLogit needs at least 1 level, got {self.levels}")
        if not 0.0 < self.margin < 0.5:
            raise ValueError(f"DataLogit needs a margin in (0, 0.5), got {self.margin}")

    def forward(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        p = self.margin + self._span * (x / self.levels)
        rest = self.margin + self._span * ((self.levels - x) / self.levels)  # 1 - p
        # Outside the domain the logarithms are -inf or NaN, as intended.
        with np.errstate(divide="ignore", invalid="ignore"):
            y = np.log(p) - np.log(rest)
            # One logarithm, not three that cancel: log(1 / levels) is about -5.5.
            log_derivative = -np.log(p * rest * (self.levels / self._span))
        return y, sum_per_example(log_derivative)

    def inverse(self, y: Array, context: Array | None = None) -> tuple[Array, Array]:
        # sigmoid(-|y|) <= 1/2 is the smaller of p and 1 - p, with all its digits.
        offset = self.levels * ((sigmoid(-np.abs(y)) - self.margin) / self._span)
        x = np.where(y <= 0, offset, self.levels - offset)
        return x, sum_per_example(log_sigmoid_slope(y) - np.log(self._span / self.levels))

    @property
    def _span(self) -> float:
        """Length of p's interval."""
        return 1.0 - 2.0 * self.margin
