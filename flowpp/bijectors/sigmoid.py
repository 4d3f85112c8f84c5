"""Logistic sigmoid."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from .bijector import Bijector
from .log_dets import sum_per_example


class Sigmoid(Bijector):
    """y = 1 / (1 + exp(-x)), from the real line onto (0, 1); its inverse is the logit.

    Numerics: the forward log-determinant is computed from x, so it stays accurate where y has
    rounded to 0 or 1. The inverse at exactly 0 or 1 is -inf or +inf, and its log-determinant
    +inf: the true limits. Outside [0, 1] it is NaN.
    """

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return torch.sigmoid(x), sum_per_example(logsigmoid(x) + logsigmoid(-x))

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        log_y, log_rest = torch.log(y), torch.log1p(-y)
        return log_y - log_rest, sum_per_example(-log_y - log_rest)
