"""Multi-scale architecture: half of the variables go to the prior unchanged."""

from __future__ import annotations

import torch
from torch import Tensor

from .bijector import Bijector


class FactorOut(Bijector):
    """(a, b) -> (bijector(a), b): the last half of the channels goes to the prior unchanged.

    Args:
        bijector: maps the first half, and must keep its shape (a squeeze inside is undone
            inside).

    Raises:
        ValueError: an odd number of channels, or a bijector that changes the shape.

    Source: Dinh, Sohl-Dickstein and Bengio 2017, section 3.6. Flow++ itself keeps all variables.
    """

    divisors = inverse_divisors = {"channels": 2}

    def __init__(self, bijector: Bijector) -> None:
        super().__init__()
        self.bijector = bijector

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        a, b = x.chunk(2, dim=1)
        y, log_det = self.bijector(a, context)
        return _join(y, b), log_det

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        a, b = y.chunk(2, dim=1)
        x, log_det = self.bijector.inverse(a, context)
        return _join(x, b), log_det


def _join(a: Tensor, b: Tensor) -> Tensor:
    if a.shape != b.shape:
        raise ValueError(
            f"FactorOut needs a bijector that keeps the shape {tuple(b.shape)}, "
            f"got {tuple(a.shape)}"
        )
    return torch.cat([a, b], dim=1)
