"""Inverse of a bijector."""

from __future__ import annotations

from dataclasses import dataclass

from reference.bijectors.bijector import Array, Bijector, Shape


@dataclass(frozen=True, eq=False)
class Inverse(Bijector):
    """y = bijector^-1(x).

    Attributes:
        bijector: the bijector to invert.

    Raises:
        TypeError: anything but a bijector.
    """

    bijector: Bijector

    def __post_init__(self) -> None:
        if not isinstance(self.bijector, Bijector):
            raise TypeError(f"Inverse needs a bijector, got a {type(self.bijector).__name__}")

    def forward(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        return self.bijector.inverse(x, context)

    def inverse(self, y: Array, context: Array | None = None) -> tuple[Array, Array]:
        return self.bijector.forward(y, context)

    def output_shape(self, shape: Shape, *, inverse: bool = False) -> Shape:
        """Return the shape of one image after the inverse, or after the bijector itself."""
        return self.bijector.output_shape(shape, inverse=not inverse)
