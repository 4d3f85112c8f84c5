"""A model as a distribution of integer images."""

from __future__ import annotations

from typing import Any

import torch
from torch import Size, Tensor
from torch.distributions import (
    Distribution,
    Independent,
    Normal,
    TransformedDistribution,
    constraints,
)

from ..bijectors import Inverse
from ..config import checks
from ..config.context_spec import AXES, ContextKind
from ..context import ContextEncoder, LabelEncoder, VectorEncoder
from ..model import FlowPlusPlus
from ..objective import importance_weighted_bound
from .transform import EVENT_DIM, BijectorTransform


class FlowPlusPlusDistribution(Distribution):
    """P(x) or P(x|context) of integer images x; an event is one image `(C, H, W)`.

    `log_prob` is in expectation a lower bound on log P(x): the ELBO, or with several importance
    samples the tighter bound of Burda et al. It is random unless noise is given, and
    differentiable in the model's parameters.

    Integers cannot be reparametrized, so `has_rsample` is False. `rsample` returns the real-valued
    images before rounding.

    Args:
        model: dequantizer and flow. Its mode is not changed: call `model.eval()` to switch dropout
            off.
        image_shape: `(C, H, W)`.
        importance_samples: number of noise draws per image in `log_prob`.
        batch_shape: batch shape of independent copies, as in `expand`.
        context: of a conditional model: labels `(*batch)`, vectors `(*batch, D)` or images
            `(*batch, K, h, w)`. Its batch shape is broadcast with `batch_shape`.

    Raises:
        TypeError: the model is not a `FlowPlusPlus`.
        ValueError: a shape that the flow does not accept, fewer than 1 importance sample, or a
            context that is missing, not needed, or of too few axes.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}
    has_rsample = False

    def __init__(
        self,
        model: FlowPlusPlus,
        image_shape: Size | tuple[int, ...],
        *,
        importance_samples: int = 1,
        batch_shape: Size | tuple[int, ...] = (),
        context: Tensor | None = None,
        validate_args: bool | None = None,
    ) -> None:
        checks.kind_of("model", model, FlowPlusPlus, {"TrainedModel": "model.model"})
        if len(image_shape) != EVENT_DIM:
            raise ValueError(
                "FlowPlusPlusDistribution needs an image_shape (channels, height, width), "
                f"got {tuple(image_shape)}"
            )
        if importance_samples < 1:
            raise ValueError(
                "FlowPlusPlusDistribution needs at least 1 importance sample, "
                f"got {importance_samples}"
            )
        channels, height, width = image_shape
        self.latent_shape = model.latent_shape_of((channels, height, width))
        self.model, self.importance_samples = model, importance_samples
        self.context = context
        contexts = _batch_of_contexts(model, context)
        batch = torch.broadcast_shapes(Size(batch_shape), contexts)
        super().__init__(batch, Size(image_shape), validate_args=validate_args)

    @property
    def support(self) -> constraints.Constraint:
        """Constraint to the integers 0 ... levels - 1."""
        return constraints.independent(
            constraints.integer_interval(0, self.model.levels - 1), EVENT_DIM
        )

    def log_prob(self, value: Tensor, noise: Tensor | None = None) -> Tensor:
        """Return a bound on log P(x) in nats: `(*batch)`.

        Args:
            value: images `(*batch, C, H, W)`, integers of any dtype.
            noise: noise from the model's `draw_noise` for `value`, with an axis of n importance
                samples before it for several; drawn if None. With a context, that for images of
                the batch shape of both.

        Raises:
            ValueError: images or noise of another shape; values outside the support.
        """
        if value.shape[-EVENT_DIM:] != self.event_shape:
            shape = ", ".join(map(str, self.event_shape))
            raise ValueError(
                f"FlowPlusPlusDistribution needs images (..., {shape}), got {tuple(value.shape)}"
            )
        if self.context is not None:
            batch = torch.broadcast_shapes(value.shape[:-EVENT_DIM], self.batch_shape)
            value = value.expand(*batch, *self.event_shape)
        batch = value.shape[:-EVENT_DIM]
        images = value.reshape(-1, *self.event_shape)
        context = self._contexts(batch)
        if self._validate_args:
            torch.broadcast_shapes(batch, self.batch_shape)
            self.model.dequantizer.check_images(images)  # says more than torch's own check
        if noise is None:
            bounds = [
                self.model.elbo(images, self._noise(images), context).total
                for _ in range(self.importance_samples)
            ]
        else:
            draws = self._draws(value, noise)
            bounds = [self.model.elbo(images, draw, context).total for draw in draws]
        bound = importance_weighted_bound(torch.stack(bounds)) if len(bounds) > 1 else bounds[0]
        return bound.reshape(batch).expand(torch.broadcast_shapes(batch, self.batch_shape))

    @torch.no_grad()
    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draw integer images `(*sample_shape, *batch_shape, C, H, W)`, int64.

        Raises:
            NonFiniteImageError: a pixel is NaN or infinite.
        """
        batch, z = self._drawn(Size(sample_shape))
        images = self.model.decode_images(z, self._contexts(batch))
        return images.long().reshape(*batch, *self.event_shape)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draw real-valued images in [0, levels], of which `sample` is the floor.

        They are differentiable in the flow's parameters, except where clipped to the range. They
        are outside the support and have no `log_prob` here; see `dequantized` for their density.
        """
        batch, z = self._drawn(Size(sample_shape))
        images = self.model.decode(z, self._contexts(batch))
        return images.reshape(*batch, *self.event_shape)

    def dequantized(self) -> TransformedDistribution:
        """Return the exact, reparametrized distribution of real-valued images x + u, unclipped.

        In an augmented model it is the joint one of x + u and e, in this order of channels.
        """
        like = self._like()
        zero = torch.zeros(self.latent_shape, dtype=like.dtype, device=like.device)
        prior = Independent(Normal(zero, torch.ones_like(zero)), EVENT_DIM)
        features = self._features()
        transform = BijectorTransform(Inverse(self.model.flow), features)
        return TransformedDistribution(prior.expand(self.batch_shape), [transform])

    def expand(
        self, batch_shape: Size | list[int] | tuple[int, ...], _instance: Any = None
    ) -> FlowPlusPlusDistribution:
        """Return independent copies that share the model."""
        new = self._get_checked_instance(FlowPlusPlusDistribution, _instance)
        new.model, new.importance_samples = self.model, self.importance_samples
        new.latent_shape, new.context = self.latent_shape, self.context
        super(FlowPlusPlusDistribution, new).__init__(
            Size(batch_shape), self.event_shape, validate_args=False
        )
        new._validate_args = self._validate_args
        return new

    def __repr__(self) -> str:
        shape, samples = tuple(self.event_shape), self.importance_samples
        return f"FlowPlusPlusDistribution(image_shape={shape}, importance_samples={samples})"

    def _drawn(self, sample_shape: Size) -> tuple[Size, Tensor]:
        """Return the whole batch shape, and z drawn from the prior."""
        batch = sample_shape + self.batch_shape
        like = self._like()
        shape = (batch.numel(), *self.latent_shape)
        return batch, torch.randn(shape, dtype=like.dtype, device=like.device)

    def _contexts(self, batch: Size) -> Tensor | None:
        """Return the context of each image of a batch, `(B, ...)`; None without."""
        context = self.context
        if context is None:
            return None
        event = context.shape[len(_batch_of_contexts(self.model, context)) :]
        return context.expand(*batch, *event).reshape(-1, *event)

    def _features(self) -> Tensor | None:
        """Return the features of the contexts, `(*batch_shape, F, H, W)`; None without."""
        context = self._contexts(self.batch_shape)
        if context is None:
            return None
        channels, height, width = self.event_shape
        assert self.model.context_encoder is not None
        features = self.model.context_encoder(context, (channels, height, width))
        return features.reshape(*self.batch_shape, *features.shape[1:])

    def _noise(self, images: Tensor) -> Tensor:
        like = self._like()
        return self.model.draw_noise(images.shape, dtype=like.dtype, device=like.device)

    def _draws(self, value: Tensor, noise: Tensor) -> list[Tensor]:
        needed = Size(self.model.augmented_shape(value.shape))
        if noise.shape == needed:
            noise = noise[None]
        if noise.shape[1:] != needed or not len(noise):
            raise ValueError(
                f"FlowPlusPlusDistribution needs noise of shape {tuple(needed)} or "
                f"(samples, ...) of it, got {tuple(noise.shape)}"
            )
        return [draw.reshape(-1, *needed[-EVENT_DIM:]) for draw in noise]

    def _like(self) -> Tensor:
        """A tensor of the model's dtype and device."""
        return next(self.model.parameters(), torch.empty(0))


def _batch_of_contexts(model: FlowPlusPlus, context: Tensor | None) -> Size:
    """Return the batch shape of contexts.

    Raises:
        ValueError: a context of a model without, none of a model with, or too few axes.
    """
    if (context is None) != (model.context_encoder is None):
        raise ValueError(
            "FlowPlusPlusDistribution needs a context of a conditional model, and none of an "
            f"unconditional one, got {'no' if context is None else 'a'} context for "
            f"{'an un' if model.context_encoder is None else 'a '}conditional model"
        )
    if context is None:
        return Size()
    assert model.context_encoder is not None
    axes = AXES[_kind(model.context_encoder)]
    if context.ndim < axes:
        raise ValueError(
            f"FlowPlusPlusDistribution needs a context of at least {axes} axes, got "
            f"{tuple(context.shape)}"
        )
    return context.shape[: context.ndim - axes]


def _kind(encoder: ContextEncoder) -> ContextKind:
    if isinstance(encoder, LabelEncoder):
        return "labels"
    return "vectors" if isinstance(encoder, VectorEncoder) else "images"
