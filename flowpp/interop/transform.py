"""A bijector as a transform of torch.distributions."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Size, Tensor
from torch.distributions import Transform, constraints
from torch.distributions.transforms import _InverseTransform

from ..bijectors import Bijector
from .spaces import images_within, interval_of, output_shape

EVENT_DIM = 3


class BijectorTransform(Transform):
    """t(x) = bijector(x, context), an event being one image `(C, H, W)`.

    Any number of batch axes may stand before an event, none included. Value and log-determinant
    come from one pass (`call_and_ladj`); with `cache_size=1` the latest pass is kept, so that
    `log_abs_det_jacobian` and the inverse of what was just computed cost nothing (use it once for
    each optimizer step: a pass that is kept knows nothing of changed parameters).

    The direction is the bijector's, data to noise, as zuko has it. torch's and Pyro's
    `TransformedDistribution` goes from noise to data: give it `transform.inv`.

    Args:
        bijector: any of `flowpp.bijectors`. Its parameters are trained through the transform;
            register `transform.bijector` where a module is asked for (`pyro.module`).
        context: `(*batch, F, H', W')`, broadcast over the batch axes of x; None for none.
        cache_size: 0 or 1.
        domain: constraint on the inputs, of `event_dim` 3, where the bijector's own does not say
            enough.
        codomain: likewise on the outputs.

    Raises:
        TypeError: `bijector` is none.
        ValueError: a constraint on other events than images.
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
        self._ladj: Tensor | None = None  # of the pass that the base class keeps

    @property
    def inv(self) -> Transform:
        """From noise to data; `t.inv.inv is t`."""
        if self._inv is None:
            self._inv = _InverseBijectorTransform(self)
        return self._inv

    def with_cache(self, cache_size: int = 1) -> BijectorTransform:
        """The same transform with another size of cache; the bijector is shared."""
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
        """y `(*batch, C', H', W')` and log|det dy/dx| `(*batch)`, in one pass."""
        if self._cache_size and x is self._cached_x_y[0] and self._ladj is not None:
            return self._cached_x_y[1], self._ladj
        y, ladj = self._apply(x, inverse=False)
        self._keep(x, y, ladj)
        return y, ladj

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """log|det dy/dx| `(*batch)`: what the cache has of x and y, or else another pass."""
        if self._cache_size and self._ladj is not None:
            kept_x, kept_y = self._cached_x_y
            if x is kept_x and y is kept_y:
                return self._ladj
        return self._apply(x, inverse=False)[1]

    def forward_shape(self, shape: Any) -> Size:
        """`(*batch, C, H, W)` to `(*batch, C', H', W')`."""
        return self._moved(shape, inverse=False)

    def inverse_shape(self, shape: Any) -> Size:
        """`(*batch, C', H', W')` to `(*batch, C, H, W)`."""
        return self._moved(shape, inverse=True)

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
        """x and log|det dx/dy|, in one pass."""
        if self._cache_size and y is self._cached_x_y[1] and self._ladj is not None:
            return self._cached_x_y[0], -self._ladj
        x, ladj = self._apply(y, inverse=True)
        self._keep(x, y, -ladj)
        return x, ladj

    def _keep(self, x: Tensor, y: Tensor, ladj: Tensor) -> None:
        if self._cache_size:
            kept: Any = (x, y)
            self._cached_x_y, self._ladj = kept, ladj

    def _apply(self, x: Tensor, *, inverse: bool) -> tuple[Tensor, Tensor]:
        """One pass over all batch axes at once."""
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
        side = self.bijector.inverse if inverse else self.bijector
        y, ladj = side(_flat(x, batch), context)
        return y.reshape(*batch, *y.shape[1:]), ladj.reshape(batch)

    def _moved(self, shape: Any, *, inverse: bool) -> Size:
        if len(shape) < EVENT_DIM:
            raise ValueError(
                "BijectorTransform needs a shape (..., channels, height, width), "
                f"got {tuple(shape)}"
            )
        channels, height, width = shape[-EVENT_DIM:]
        moved = output_shape(self.bijector, (channels, height, width), inverse=inverse)
        return Size((*shape[:-EVENT_DIM], *moved))


class _InverseBijectorTransform(_InverseTransform):
    """The inverse, which finds value and log-determinant in one pass as well."""

    def call_and_ladj(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self._inv._inverse_and_ladj(x)  # type: ignore[union-attr]


def _flat(x: Tensor, batch: Size | tuple[int, ...]) -> Tensor:
    """`(..., C, H, W)` as `(B, C, H, W)`, B the number of events in all."""
    event = x.shape[-EVENT_DIM:]
    return x.expand(*batch, *event).reshape(math.prod(batch), *event)
