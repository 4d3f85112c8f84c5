"""Logit of scaled pixel values: from [0, levels] to the real line."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from .bijector import Bijector
from .checks import checked_levels
from .log_dets import sum_per_example


class DataLogit(Bijector):
    """y = logit(p), p = margin + (1 - 2 margin) x / levels, for x in [0, levels].

    Args:
        levels: number M of values of a channel, at least 2 (256, 32, 8, 17, ...).
        margin: distance of p from 0 and 1 at the ends, in (0, 1/2).

    Raises:
        ValueError: levels that are not an integer of at least 2, or a margin outside (0, 1/2).

    Numerics: the inverse of a y beyond logit(margin) lies outside [0, levels] and is not clamped,
    so that the map stays a bijection. The inverse's log-determinant is computed from y.

    Source: Dinh, Sohl-Dickstein and Bengio 2017, section 4.1; Flow++'s released code.
    """

    def __init__(self, levels: int, margin: float = 0.05) -> None:
        super().__init__()
        self.levels = checked_levels(levels, self)
        if not 0 < margin < 0.5:
            raise ValueError(f"DataLogit needs a margin in (0, 0.5), got {margin}")
        self.margin = float(margin)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        p = self.margin + self._slope * x
        # 1 - p by its own formula: near the top, 1 - p computed from p has lost digits.
        rest = self.margin + self._slope * (self.levels - x)
        log_p, log_rest = torch.log(p), torch.log(rest)
        return log_p - log_rest, sum_per_example(math.log(self._slope) - log_p - log_rest)

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        # Measured from the nearer end: x = (sigmoid(-|y|) - margin) / slope from 0 or from
        # `levels`. Not written with |y|, whose kink would make the gradient at 0 vanish.
        nearer = torch.where(y > 0, torch.sigmoid(-y), torch.sigmoid(y))
        offset = (nearer - self.margin) / self._slope
        x = torch.where(y > 0, self.levels - offset, offset)
        terms = logsigmoid(y) + logsigmoid(-y) - math.log(self._slope)
        return x, sum_per_example(terms)

    @property
    def _slope(self) -> float:
        """dp/dx."""
        return (1 - 2 * self.margin) / self.levels

    def extra_repr(self) -> str:
        return f"levels={self.levels}, margin={self.margin}"
