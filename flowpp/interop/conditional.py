"""Conditional bijectors: modules that map a context to a transform."""

from __future__ import annotations

from torch import Tensor, nn

from ..bijectors import Bijector
from .transform import BijectorTransform


class ConditionalBijector(nn.Module):
    """c -> BijectorTransform(bijector, c): a module that returns a transform for a context.

    zuko calls this a lazy transform and accepts it in `zuko.lazy.Flow` and `zuko.flows.Flow`. Pyro
    requires its own base class; register this one there:
    `pyro.distributions.conditional.ConditionalTransform.register(ConditionalBijector)`.

    Args:
        bijector: any of `flowpp.bijectors`.
        cache_size: cache size of the transforms, 0 or 1.
    """

    def __init__(self, bijector: Bijector, *, cache_size: int = 0) -> None:
        super().__init__()
        self.bijector = bijector
        self.cache_size = cache_size

    def forward(self, context: Tensor | None = None) -> BijectorTransform:
        """Return the transform for a context `(*batch, F, H', W')`, or without one."""
        return BijectorTransform(self.bijector, context, cache_size=self.cache_size)

    def condition(self, context: Tensor) -> BijectorTransform:
        """Return the transform for a context; the name that Pyro calls."""
        return self(context)
