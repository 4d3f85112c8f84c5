"""Coupling layer: one half of the channels sets an elementwise map of the other half."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from .bijector import Bijector


class ElementwiseFamily(Protocol):
    """Elementwise bijectors, indexed by `parameters_per_scalar` numbers for each scalar.

    The parameters have shape `(B, C, H, W, parameters_per_scalar)`. `flowpp.elementwise.Family` is
    a base class with these methods.
    """

    @property
    def parameters_per_scalar(self) -> int:
        """Number of parameters for each scalar."""

    def transform(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Map x forward by the member of these parameters: `(y, log_det)`."""

    def inverse_transform(self, y: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Map y back by the member of these parameters: `(x, log_det)`."""


class Coupling(Bijector):
    """(a, b) -> (a, f(b)), f = family(conditioner(a, context)).

    Args:
        conditioner: `(a, context) -> raw`, `(B, C/2, H, W) -> (B, C/2 * P, H, W)`; ordered
            channel-major: index = channel * P + parameter.
        family: elementwise bijectors of `(B, C/2, H, W, P)` parameters,
            P = `family.parameters_per_scalar`.

    Raises:
        TypeError: a family without `transform` and `inverse_transform`.
        ValueError: an odd number of channels; a conditioner whose output has another shape.

    Source: Flow++ eqs. 13 and 20.
    """

    divisors = inverse_divisors = {"channels": 2}

    recompute = False
    """Recompute the map in the backward pass instead of storing its activations; see
    `flowpp.config.build.set_compute`. The values are the same either way."""

    def __init__(self, conditioner: Callable[..., Tensor], family: ElementwiseFamily) -> None:
        super().__init__()
        if not (hasattr(family, "transform") and hasattr(family, "inverse_transform")):
            raise TypeError(
                "Coupling needs a family with transform and inverse_transform, such as a subclass "
                f"of flowpp.elementwise.Family, got {type(family).__name__}"
            )
        self.conditioner = conditioner
        self.family = family

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        a, b = x.chunk(2, dim=1)
        if self.recompute and torch.is_grad_enabled():
            # The random state is restored too, so that dropout repeats its mask.
            y, log_det = checkpoint(self._transform, a, b, context, use_reentrant=False)
        else:
            y, log_det = self._transform(a, b, context)
        return torch.cat([a, y], dim=1), log_det

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        a, b = y.chunk(2, dim=1)
        x, log_det = self.family.inverse_transform(b, self._family_parameters(a, context))
        return torch.cat([a, x], dim=1), log_det

    def _transform(self, a: Tensor, b: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        return self.family.transform(b, self._family_parameters(a, context))

    def _family_parameters(self, a: Tensor, context: Tensor | None) -> Tensor:
        """Return the conditioner's output as `(B, C/2, H, W, P)`."""
        raw = self.conditioner(a, context)
        per_scalar = self.family.parameters_per_scalar
        batch, channels, height, width = a.shape
        needed = (batch, channels * per_scalar, height, width)
        if raw.shape != needed:
            raise ValueError(
                f"Coupling needs parameters of shape {needed} from its conditioner, "
                f"got {tuple(raw.shape)}"
            )
        # Under autocast the networks alone have half precision.
        kept = raw.dtype is torch.bfloat16 and getattr(self.family, "reads_bfloat16", False)
        if not (kept and a.dtype is torch.float32):
            raw = raw.to(a.dtype)
        split = raw.reshape(batch, channels, per_scalar, height, width)
        return split.permute(0, 1, 3, 4, 2)
