"""A bijector that waits for its context."""

from __future__ import annotations

from torch import Tensor, nn

from ..bijectors import Bijector
from .transform import BijectorTransform


class ConditionalBijector(nn.Module):
    """c -> BijectorTransform(bijector, c): a module whose call gives a transform.

    That is what zuko calls a lazy transform, and it stands in a `zuko.lazy.Flow` or
    `zuko.flows.Flow` as one. Pyro asks for its own base class; register this one there:
    `pyro.distributions.conditional.ConditionalTransform.register(ConditionalBijector)`.

    Args:
        bijector: any of `flowpp.bijectors`.
        cache_size: of the transforms, 0 or 1.
    """

    def __init__(self, bijector: Bijector, *, cache_size: int = 0) -> None:
        super().__init__()
        self.bijector = bijector
        self.cache_size = cache_size

    def forward(self, context: Tensor | None = None) -> BijectorTransform:
        """The transform for a context `(*batch, F, H', W')`, or for none."""
        return BijectorTransform(self.bijector, context, cache_size=self.cache_size)

    def condition(self, context: Tensor) -> BijectorTransform:
        """The same, by the name that Pyro calls."""
        return self(context)
