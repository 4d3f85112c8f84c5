"""The contract of every bijector, and the checks of its input.

A bijector maps images to images, x on the data side and y on the noise side::

    forward(x, context=None) -> (y, log_det)    # log_det = log|det dy/dx|
    inverse(y, context=None) -> (x, log_det)    # log_det = log|det dx/dy|

- Arrays are (batch, channels, height, width); one array in, one array out.
- `log_det` always has shape (batch,), in nats.
- The input may have any real dtype, integers included; the output is float64.
- A NaN in the input gives NaN in the output of that example, never a plausible number.
- A split is a permutation that puts its two halves on the channel axis, first half first.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

import numpy as np

from reference.bijectors.checks import check_divisible, check_images

Array = np.ndarray
Shape = tuple[int, int, int]
"""(channels, height, width) of one image."""
B = TypeVar("B", bound="Bijector")


class Bijector(ABC):
    """An invertible map of (batch, channels, height, width) arrays.

    Subclasses define `forward` and `inverse`; both (and `initialize`) are wrapped to check their
    input first and to convert it to float64, so a subclass holds only its mathematics. It states
    its own conditions on the input by `divisors`, `inverse_divisors` and `check_fields`, and by
    `permutes` whether it only moves numbers.
    """

    divisors: ClassVar[Mapping[str, int]] = {}
    """Divisor of the input's "channels", "height" or "width" in the forward direction."""

    inverse_divisors: ClassVar[Mapping[str, int]] = {}
    """The same for the inverse."""

    permutes: ClassVar[bool] = False
    """Whether the output holds the input's numbers in another order; its log_det is then 0."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name, wrap in WRAPPED.items():
            if name in vars(cls):
                setattr(cls, name, wrap(vars(cls)[name]))

    @abstractmethod
    def forward(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        """Map data to noise: (y, log|det dy/dx|), shapes (B, C, H, W) and (B,)."""

    @abstractmethod
    def inverse(self, y: Array, context: Array | None = None) -> tuple[Array, Array]:
        """Map noise to data: (x, log|det dx/dy|), shapes (B, C, H, W) and (B,)."""

    def initialize(self: B, x: Array, context: Array | None = None) -> tuple[B, Array]:
        """Initialize from data: return this bijector fitted to the batch x, and its output.

        A bijector without anything to fit returns itself. Composite bijectors fit their parts in
        the order of the forward pass, each to the output of the fitted parts before it.
        """
        return self, self.forward(x, context)[0]

    def output_shape(self, shape: Shape, *, inverse: bool = False) -> Shape:
        """Return the shape (C', H', W') of one image after the bijector, or after its inverse.

        Permutations are applied to an image; all others keep the shape, but for compositions,
        which override this.
        """
        if not self.permutes:
            return shape
        blank = np.zeros((1, *shape))
        moved, _ = self.inverse(blank) if inverse else self.forward(blank)
        return moved.shape[1:]

    def check_input(self, x: Any, *, inverse: bool = False) -> Array:
        """Check the input of `forward` or of `inverse`, and return it as float64.

        Raises:
            TypeError: x does not hold real numbers.
            ValueError: x has the wrong number of axes, or a size that does not fit this bijector.
        """
        owner = f"{type(self).__name__} inverse" if inverse else type(self).__name__
        images = check_images(x, owner)
        for axis, divisor in (self.inverse_divisors if inverse else self.divisors).items():
            check_divisible(images, owner, axis, divisor)
        self.check_fields(images, owner)
        return images

    def check_fields(self, x: Array, owner: str) -> None:  # noqa: B027  (an optional hook)
        """Raise ValueError if a field does not fit images of x's shape.

        The message begins with `owner`. Without an override, every shape fits.
        """


Method = Callable[..., Any]
"""A subclass's `forward` or `inverse`, which may have arguments besides x and the context."""


def _checked_forward(method: Method) -> Method:
    @functools.wraps(method)
    def forward(self: Bijector, x: Any, *args: Any, **kwargs: Any) -> Any:
        return method(self, self.check_input(x), *args, **kwargs)

    return forward


def _checked_inverse(method: Method) -> Method:
    @functools.wraps(method)
    def inverse(self: Bijector, y: Any, *args: Any, **kwargs: Any) -> Any:
        return method(self, self.check_input(y, inverse=True), *args, **kwargs)

    return inverse


WRAPPED = {
    "forward": _checked_forward,
    "initialize": _checked_forward,
    "inverse": _checked_inverse,
}
"""Methods that a subclass of Bijector defines, and the check that comes before them."""
