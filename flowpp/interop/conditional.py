"""Conditional bijectors and models: modules that map a context to a transform or distribution."""

from __future__ import annotations

from torch import Size, Tensor, nn

from ..bijectors import Bijector
from ..config import checks
from ..model import FlowPlusPlus
from .distribution import FlowPlusPlusDistribution
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


class ConditionalFlowPlusPlus(nn.Module):
    """c -> FlowPlusPlusDistribution(model, image_shape, context=c).

    It is called as zuko's lazy distributions are. Pyro requires its own base class: pass this one
    to `pyro.distributions.conditional.ConditionalDistribution.register`, and choose a
    `distribution` with Pyro's mixin.

    Args:
        model: a conditional model.
        image_shape: `(C, H, W)`.
        importance_samples: number of noise draws per image in `log_prob`.
        distribution: `FlowPlusPlusDistribution`, or a subclass of it.

    Raises:
        TypeError: the model is not a `FlowPlusPlus`.
        ValueError: an unconditional model.
    """

    def __init__(
        self,
        model: FlowPlusPlus,
        image_shape: Size | tuple[int, ...],
        *,
        importance_samples: int = 1,
        distribution: type[FlowPlusPlusDistribution] = FlowPlusPlusDistribution,
    ) -> None:
        super().__init__()
        checks.kind_of("model", model, FlowPlusPlus, {"TrainedModel": "model.model"})
        if model.context_encoder is None:
            raise ValueError(
                "ConditionalFlowPlusPlus needs a conditional model, got an unconditional one: use "
                "FlowPlusPlusDistribution"
            )
        self.model, self.image_shape = model, Size(image_shape)
        self.importance_samples = importance_samples
        self.distribution = distribution

    def forward(self, context: Tensor) -> FlowPlusPlusDistribution:
        """Return the distribution of images for a batch of contexts.

        Args:
            context: labels `(*batch)`, vectors `(*batch, D)` or images `(*batch, K, h, w)`.
        """
        return self.distribution(
            self.model,
            self.image_shape,
            importance_samples=self.importance_samples,
            context=context,
        )

    def condition(self, context: Tensor) -> FlowPlusPlusDistribution:
        """Return the distribution for a context; the name that Pyro calls."""
        return self(context)
