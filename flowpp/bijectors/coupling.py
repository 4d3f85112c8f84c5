"""Coupling: one half of the channels sets an elementwise map of the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from . import Bijector
from .checks import check_divisible, check_images


class Family(Protocol):
    """Elementwise bijectors, indexed by `parameters_per_scalar` numbers for each scalar."""

    @property
    def parameters_per_scalar(self) -> int:
        """How many numbers pick a member."""

    def __call__(self, parameters: Tensor) -> Bijector:
        """The member for parameters `(B, C, H, W, parameters_per_scalar)`."""


class Coupling(Bijector):
    """(a, b) -> (a, f(b)), f = family(conditioner(a, context)).

    Args:
        conditioner: `(a, context) -> raw`, `(B, C/2, H, W) -> (B, C/2 * P, H, W)`; the channel of
            the scalar it speaks of is the slow index, the parameter the fast one.
        family: makes an elementwise bijector of `(B, C/2, H, W, P)` parameters;
            P = `family.parameters_per_scalar`.

    Raises:
        ValueError: an odd number of channels; a conditioner whose output has another shape.

    Source: Flow++ eqs. 13 and 20.
    """

    recompute = False
    """Keep nothing of the network for the backward pass and run it again there: see
    `flowpp.config.build.set_compute`. The bijector is the same either way."""

    def __init__(self, conditioner: Callable[..., Tensor], family: Family) -> None:
        super().__init__()
        self.conditioner = conditioner
        self.family = family

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        a, b = self._halves(x)
        if self.recompute and torch.is_grad_enabled():
            # The state of the random numbers is kept too: dropout falls where it fell.
            y, log_det = checkpoint(self._transform, a, b, context, use_reentrant=False)
        else:
            y, log_det = self._transform(a, b, context)
        return torch.cat([a, y], dim=1), log_det

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        a, b = self._halves(y)
        x, log_det = self._map(a, context).inverse(b)
        return torch.cat([a, x], dim=1), log_det

    def _transform(self, a: Tensor, b: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        return self._map(a, context).forward(b)

    def _map(self, a: Tensor, context: Tensor | None) -> Bijector:
        raw = self.conditioner(a, context)
        per_scalar = self.family.parameters_per_scalar
        batch, channels, height, width = a.shape
        needed = (batch, channels * per_scalar, height, width)
        if raw.shape != needed:
            raise ValueError(
                f"Coupling needs parameters of shape {needed} from its conditioner, "
                f"got {tuple(raw.shape)}"
            )
        split = raw.reshape(batch, channels, per_scalar, height, width)
        return self.family(split.permute(0, 1, 3, 4, 2))

    @staticmethod
    def _halves(x: Tensor) -> tuple[Tensor, Tensor]:
        check_images(x, "Coupling")
        check_divisible(x, "Coupling", 1, 2)
        a, b = x.chunk(2, dim=1)
        return a, b
