"""A bijector as a transform of torch.distributions."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Size, Tensor
from torch.distributions import Transform, constraints
from torch.distributions.transforms import _InverseTransform

from ..bijectors import Bijector
from .spaces import images_within, interval_of

EVENT_DIM = 3


class BijectorTransform(Transform):
    """t(x) = bijector(x, context); an event is one image `(C, H, W)`.

    Events may have any number of batch axes. `call_and_ladj` computes value and log-determinant in
    one pass. With `cache_size=1` the latest pass is cached, so that `log_abs_det_jacobian` and the
    inverse of its result cost nothing. The cache does not notice changed parameters: use a new
    transform for each optimizer step.

    The direction is the bijector's, data to noise, as in zuko. The `TransformedDistribution` of
    torch and Pyro goes from noise to data and needs `transform.inv`.

    Args:
        bijector: any of `flowpp.bijectors`. Its parameters are trained through the transform;
            register `transform.bijector` where a module is required (`pyro.module`).
        context: `(*batch, F, H', W')`, broadcast over the batch axes of x, or None.
        cache_size: 0 or 1.
        domain: constraint on the inputs, of `event_dim` 3, if tighter than the bijector's own.
        codomain: constraint on the outputs, likewise.

    Raises:
        TypeError: `bijector` is not a `Bijector`.
        ValueError: `context` has fewer than 3 axes, or a constraint is not of `event_dim` 3.
    """

    bijective = True

    def __init__(
        self,
        bijector: Bijector,
        context: Tensor | None = None,
        *,
        cache_size: int = 0,
        domain: constraints.Constraint | None = None,
        codomain: constraints.Constraint | None = None,
    ) -> None:
        super().__init__(cache_size=cache_size)
        if not isinstance(bijector, Bijector):
            raise TypeError(
                f"BijectorTransform needs a flowpp bijector, got {type(bijector).__name__}"
            )
        if context is not None and context.ndim < EVENT_DIM:
            raise ValueError(
                "BijectorTransform needs a context (..., channels, height, width), "
                f"got {tuple(context.shape)}"
            )
        self.bijector, self.context = bijector, context
        self.domain = domain or images_within(interval_of(bijector, inverse=True))
        self.codomain = codomain or images_within(interval_of(bijector))
        for name, space in (("domain", self.domain), ("codomain", self.codomain)):
            if space.event_dim != EVENT_DIM:
                raise ValueError(
                    f"BijectorTransform needs a {name} of event_dim 3, got {space.event_dim}"
                )
        self._ladj: Tensor | None = None  # of the pass that the base class caches

    @property
    def inv(self) -> Transform:
        """The transform from noise to data; `t.inv.inv is t`."""
        if self._inv is None:
            self._inv = _InverseBijectorTransform(self)
        return self._inv

    def with_cache(self, cache_size: int = 1) -> BijectorTransform:
        """Return the same transform with another cache size; the bijector is shared."""
        if cache_size == self._cache_size:
            return self
        return BijectorTransform(
            self.bijector,
            self.context,
            cache_size=cache_size,
            domain=self.domain,
            codomain=self.codomain,
        )

    def call_and_ladj(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return y `(*batch, C', H', W')` and log|det dy/dx| `(*batch)`, in one pass."""
        if self._cache_size and x is self._cached_x_y[0] and self._ladj is not None:
            return self._cached_x_y[1], self._ladj
        y, ladj = self._apply(x, inverse=False)
        self._cache(x, y, ladj)
        return y, ladj

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """Return log|det dy/dx| `(*batch)`, from the cache if x and y are in it."""
        if self._cache_size and self._ladj is not None:
            cached_x, cached_y = self._cached_x_y
            if x is cached_x and y is cached_y:
                return self._ladj
        return self._apply(x, inverse=False)[1]

    def forward_shape(self, shape: Any) -> Size:
        """Map a shape `(*batch, C, H, W)` to `(*batch, C', H', W')`."""
        return self._shape_after(shape, inverse=False)

    def inverse_shape(self, shape: Any) -> Size:
        """Map a shape `(*batch, C', H', W')` to `(*batch, C, H, W)`."""
        return self._shape_after(shape, inverse=True)

    def __repr__(self) -> str:
        return f"BijectorTransform({type(self.bijector).__name__})"

    def _call(self, x: Tensor) -> Tensor:
        y, self._ladj = self._apply(x, inverse=False)
        return y

    def _inverse(self, y: Tensor) -> Tensor:
        x, ladj = self._apply(y, inverse=True)
        self._ladj = -ladj
        return x

    def _inverse_and_ladj(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return x and log|det dx/dy|, in one pass."""
        if self._cache_size and y is self._cached_x_y[1] and self._ladj is not None:
            return self._cached_x_y[0], -self._ladj
        x, ladj = self._apply(y, inverse=True)
        self._cache(x, y, -ladj)
        return x, ladj

    def _cache(self, x: Tensor, y: Tensor, ladj: Tensor) -> None:
        if self._cache_size:
            pair: Any = (x, y)
            self._cached_x_y, self._ladj = pair, ladj

    def _apply(self, x: Tensor, *, inverse: bool) -> tuple[Tensor, Tensor]:
        """Apply the bijector or its inverse to all events in one pass."""
        if x.ndim < EVENT_DIM:
            raise ValueError(
                "BijectorTransform needs images (..., channels, height, width), "
                f"got {tuple(x.shape)}"
            )
        batch = x.shape[:-EVENT_DIM]
        context = self.context
        if context is not None:
            try:
                batch = torch.broadcast_shapes(batch, context.shape[:-EVENT_DIM])
            except RuntimeError:
                raise ValueError(
                    "BijectorTransform needs a context that broadcasts to the batch "
                    f"{tuple(batch)}, got {tuple(context.shape[:-EVENT_DIM])}"
                ) from None
            context = _flat(context, batch)
        function = self.bijector.inverse if inverse else self.bijector
        y, ladj = function(_flat(x, batch), context)
        return y.reshape(*batch, *y.shape[1:]), ladj.reshape(batch)

    def _shape_after(self, shape: Any, *, inverse: bool) -> Size:
        if len(shape) < EVENT_DIM:
            raise ValueError(
                "BijectorTransform needs a shape (..., channels, height, width), "
                f"got {tuple(shape)}"
            )
        channels, height, width = shape[-EVENT_DIM:]
        event = self.bijector.output_shape((channels, height, width), inverse=inverse)
        return Size((*shape[:-EVENT_DIM], *event))


class _InverseBijectorTransform(_InverseTransform):
    """The inverse, which also computes value and log-determinant in one pass."""

    def call_and_ladj(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self._inv._inverse_and_ladj(x)  # type: ignore[union-attr]


def _flat(x: Tensor, batch: Size | tuple[int, ...]) -> Tensor:
    """Flatten `(..., C, H, W)` to `(B, C, H, W)`, with B the total number of events."""
    event = x.shape[-EVENT_DIM:]
    return x.expand(*batch, *event).reshape(math.prod(batch), *event)
