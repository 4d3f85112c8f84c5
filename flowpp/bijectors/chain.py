"""Composition."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from ..runtime.image_checks import Shape
from .bijector import Bijector
from .log_dets import no_log_det


class Chain(Bijector):
    """y = f_n(... f_2(f_1(x))); log-determinants add.

    Args:
        bijectors: f_1, ..., f_n. Each receives the context.
    """

    def __init__(self, bijectors: Iterable[Bijector]) -> None:
        super().__init__()
        self.bijectors = nn.ModuleList(bijectors)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        total = no_log_det(x)
        for bijector in self.bijectors:
            x, log_det = bijector(x, context)
            total = total + log_det
        return x, total

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        total = no_log_det(y)
        bijectors: Iterable[Any] = reversed(self.bijectors)
        for bijector in bijectors:
            y, log_det = bijector.inverse(y, context)
            total = total + log_det
        return y, total

    def output_shape(self, shape: Shape, *, inverse: bool = False) -> Shape:
        """Return the shape of one image after all bijectors, or after their inverses."""
        bijectors: Iterable[Any] = reversed(self.bijectors) if inverse else self.bijectors
        for bijector in bijectors:
            shape = bijector.output_shape(shape, inverse=inverse)
        return shape
