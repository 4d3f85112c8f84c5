"""Split into the first and the last half of the channels."""

from __future__ import annotations

from torch import Tensor

from .bijector import Bijector
from .log_dets import no_log_det


class ChannelSplit(Bijector):
    """y = x, for an even number of channels: the halves already lie where a Coupling expects them.

    It states in a model which halves the following couplings use.

    Raises:
        ValueError: an odd number of channels.
    """

    divisors = inverse_divisors = {"channels": 2}
    permutes = True

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return x, no_log_det(x)

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return y, no_log_det(y)
