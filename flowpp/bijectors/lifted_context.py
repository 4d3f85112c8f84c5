"""A bijector whose context is permuted as the image before it was."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor

from ..runtime.image_checks import Shape
from .bijector import Bijector
from .chain import Chain
from .inverse import Inverse


class LiftedContext(Bijector):
    """y = bijector(x, lift(context)).

    Splits and squeezes move an image's pixels to channels. The lift moves features of the pixels
    in the same way, so that each lies at the position of its pixel.

    Args:
        bijector: a conditional bijector.
        lift: splits and squeezes, which only move numbers.

    Raises:
        ValueError: a lift that does more than that.
    """

    def __init__(self, bijector: Bijector, lift: Bijector) -> None:
        super().__init__()
        if not _only_moves(lift):
            raise ValueError(
                "LiftedContext needs a lift that only moves numbers, such as a Chain of splits "
                f"and squeezes, got {type(lift).__name__}"
            )
        self.bijector = bijector
        self.lift = lift

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.bijector(x, self._lifted(context))

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.bijector.inverse(y, self._lifted(context))

    def output_shape(self, shape: Shape, *, inverse: bool = False) -> Shape:
        """Return the shape of one image after the bijector, or after its inverse."""
        return self.bijector.output_shape(shape, inverse=inverse)

    def _lifted(self, context: Tensor | None) -> Tensor | None:
        return None if context is None else self.lift(context)[0]


def _only_moves(lift: Bijector) -> bool:
    """Return whether a bijector, or each of a composition, only moves numbers."""
    if isinstance(lift, Inverse):
        return _only_moves(lift.bijector)
    if isinstance(lift, Chain):
        parts: Iterable[Any] = lift.bijectors
        return all(_only_moves(part) for part in parts)
    return lift.permutes
