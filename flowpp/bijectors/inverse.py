"""Inverse of a bijector."""

from __future__ import annotations

from torch import Tensor

from ..runtime.image_checks import Shape
from .bijector import Bijector


class Inverse(Bijector):
    """y = bijector^-1(x).

    Args:
        bijector: the bijector to invert.
    """

    def __init__(self, bijector: Bijector) -> None:
        super().__init__()
        self.bijector = bijector

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.bijector.inverse(x, context)

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.bijector(y, context)

    def output_shape(self, shape: Shape, *, inverse: bool = False) -> Shape:
        """Return the shape of one image after the inverse, or after the bijector itself."""
        return self.bijector.output_shape(shape, inverse=not inverse)
