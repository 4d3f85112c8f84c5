"""Channel halves."""

from __future__ import annotations

from torch import Tensor

from . import Bijector
from .checks import check_divisible, check_images, no_log_det


class ChannelSplit(Bijector):
    """y = x: the first and the last half of the channels already lie where a Coupling looks.

    It is here so that a model says which halves it uses, and an odd number of channels is refused.
    """

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        check_images(x, "ChannelSplit")
        check_divisible(x, "ChannelSplit", 1, 2)
        return x, no_log_det(x)

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.forward(y)
