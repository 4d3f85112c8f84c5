"""The contract of every bijector, and the checks of its input.

A bijector maps images to images, `x` on the data side and `y` on the noise side:

    forward(x, context=None) -> (y, log_det)     log_det = log |det dy/dx|
    inverse(y, context=None) -> (x, log_det)     log_det = log |det dx/dy|

Shapes are `(batch, channels, height, width)`; `log_det` always has shape `(batch,)`, in nats. One
tensor goes in and one comes out: a split is a permutation that puts its halves on the channel
axis, where a `Coupling` expects them. The classes of the same names in the reference package are
the twins of these, field by field.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..runtime.image_checks import Shape
from .checks import check_divisible, check_images


class Bijector(nn.Module):
    """An invertible map of images with a known log-determinant.

    Subclasses define `forward` and `inverse`; both are wrapped to check their input first, so a
    subclass holds only its mathematics. It states its own conditions on the input by `divisors`,
    `inverse_divisors` and `check_fields`, and by `permutes` whether it only moves numbers.
    One with data-dependent initialization has a method `initialize(x)`, which fits it to a batch.
    """

    divisors: ClassVar[Mapping[str, int]] = {}
    """Divisor of the input's "channels", "height" or "width" in the forward direction."""

    inverse_divisors: ClassVar[Mapping[str, int]] = {}
    """The same for the inverse."""

    permutes: ClassVar[bool] = False
    """Whether the output holds the input's numbers in another order; its log_det is then 0."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name, wrap in (("forward", _checked_forward), ("inverse", _checked_inverse)):
            if name in vars(cls):
                setattr(cls, name, wrap(vars(cls)[name]))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map data to noise; returns `(y, log|det dy/dx|)`, shapes `(B, C, H, W)` and `(B,)`."""
        raise NotImplementedError

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map noise to data; returns `(x, log|det dx/dy|)`, shapes `(B, C, H, W)` and `(B,)`."""
        raise NotImplementedError

    def output_shape(self, shape: Shape, *, inverse: bool = False) -> Shape:
        """Return the shape `(C', H', W')` of one image after the bijector, or after its inverse.

        Permutations are applied to an image on the meta device; all others keep the shape, but for
        compositions, which override this.

        Raises:
            ValueError: the shape is not divisible as a permutation requires.
        """
        if not self.permutes:
            return shape
        blank = torch.empty((1, *shape), device="meta")
        moved, _ = self.inverse(blank) if inverse else self(blank)
        channels, height, width = moved.shape[1:]
        return channels, height, width

    def check_input(self, x: Tensor, *, inverse: bool = False) -> None:
        """Check the input of `forward` or of `inverse`.

        Raises:
            TypeError: x is not a floating-point tensor.
            ValueError: x has the wrong number of axes, or a size that does not fit this bijector.
        """
        owner = f"{type(self).__name__} inverse" if inverse else type(self).__name__
        check_images(x, owner)
        for axis, divisor in (self.inverse_divisors if inverse else self.divisors).items():
            check_divisible(x, owner, axis, divisor)
        self.check_fields(x, owner)

    def check_fields(self, x: Tensor, owner: str) -> None:
        """Raise ValueError if a field does not fit images of x's shape.

        The message begins with `owner`. Without an override, every shape fits.
        """


Method = Callable[..., tuple[Tensor, Tensor]]
"""A subclass's `forward` or `inverse`, which may have arguments besides x and the context."""


def _checked_forward(method: Method) -> Method:
    @functools.wraps(method)
    def forward(self: Bijector, x: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        self.check_input(x)
        return method(self, x, *args, **kwargs)

    return forward


def _checked_inverse(method: Method) -> Method:
    @functools.wraps(method)
    def inverse(self: Bijector, y: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        self.check_input(y, inverse=True)
        return method(self, y, *args, **kwargs)

    return inverse
