"""A bijector whose context is permuted as the image before it was."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from reference.bijectors.bijector import Array, Bijector, Shape
from reference.bijectors.chain import Chain
from reference.bijectors.inverse import Inverse


@dataclass(frozen=True, eq=False)
class LiftedContext(Bijector):
    """y = bijector(x, lift(context)).

    Splits and squeezes move an image's pixels to channels. The lift moves features of the pixels
    in the same way, so that each lies at the position of its pixel.

    Attributes:
        bijector: a conditional bijector.
        lift: splits and squeezes, which only move numbers.

    Raises:
        ValueError: a lift that does more than that.
    """

    bijector: Bijector
    lift: Bijector

    def __post_init__(self) -> None:
        if not _only_moves(self.lift):
            raise ValueError(
                "LiftedContext needs a lift that only moves numbers, such as a Chain of splits "
                f"and squeezes, got {type(self.lift).__name__}"
            )

    def forward(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        return self.bijector.forward(x, self._lifted(context))

    def inverse(self, y: Array, context: Array | None = None) -> tuple[Array, Array]:
        return self.bijector.inverse(y, self._lifted(context))

    def initialize(self, x: Array, context: Array | None = None) -> tuple[LiftedContext, Array]:
        """Fit the bijector, with the lifted context."""
        bijector, y = self.bijector.initialize(x, self._lifted(context))
        return dataclasses.replace(self, bijector=bijector), y

    def output_shape(self, shape: Shape, *, inverse: bool = False) -> Shape:
        """Return the shape of one image after the bijector, or after its inverse."""
        return self.bijector.output_shape(shape, inverse=inverse)

    def _lifted(self, context: Array | None) -> Array | None:
        return None if context is None else self.lift.forward(context)[0]


def _only_moves(lift: Bijector) -> bool:
    """Return whether a bijector, or each of a composition, only moves numbers."""
    if isinstance(lift, Inverse):
        return _only_moves(lift.bijector)
    if isinstance(lift, Chain):
        return all(_only_moves(part) for part in lift.bijectors)
    return lift.permutes
