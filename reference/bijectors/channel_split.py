"""Split into the first and the last half of the channels."""

from __future__ import annotations

from dataclasses import dataclass

from reference.bijectors.bijector import Array, Bijector
from reference.bijectors.log_dets import no_log_det


@dataclass(frozen=True, eq=False)
class ChannelSplit(Bijector):
    """y = x, for an even number of channels: the halves already lie where a Coupling expects them.

    It states in a model which halves the following couplings use.

    Raises:
        ValueError: an odd number of channels.
    """

    divisors = inverse_divisors = {"channels": 2}
    permutes = True

    def forward(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        return x, no_log_det(x)

    def inverse(self, y: Array, context: Array | None = None) -> tuple[Array, Array]:
        return y, no_log_det(y)
