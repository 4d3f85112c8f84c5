"""Multi-scale architecture: half of the variables leave early for the prior."""

from __future__ import annotations

import torch
from torch import Tensor

from . import Bijector
from .checks import check_divisible, check_images


class FactorOut(Bijector):
    """(a, b) -> (bijector(a), b): the last half of the channels goes to the prior as it is.

    Args:
        bijector: acts on the first half, and has to keep its shape (a squeeze inside is undone
            inside).

    Raises:
        ValueError: an odd number of channels, or a bijector that changed the shape.

    Source: Dinh, Sohl-Dickstein and Bengio 2017, section 3.6. Flow++ itself keeps all variables.
    """

    def __init__(self, bijector: Bijector) -> None:
        super().__init__()
        self.bijector = bijector

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        a, b = self._halves(x)
        y, log_det = self.bijector(a, context)
        return self._join(a, y, b), log_det

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        a, b = self._halves(y)
        x, log_det = self.bijector.inverse(a, context)
        return self._join(a, x, b), log_det

    @staticmethod
    def _halves(x: Tensor) -> tuple[Tensor, Tensor]:
        check_images(x, "FactorOut")
        check_divisible(x, "FactorOut", 1, 2)
        a, b = x.chunk(2, dim=1)
        return a, b

    @staticmethod
    def _join(before: Tensor, after: Tensor, rest: Tensor) -> Tensor:
        if after.shape != before.shape:
            raise ValueError(
                "FactorOut needs a bijector that keeps the shape "
                f"{tuple(before.shape)}, got {tuple(after.shape)}"
            )
        return torch.cat([after, rest], dim=1)
