"""Families of elementwise bijectors, indexed by what a coupling's network puts out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .bijectors.affine import Affine
from .bijectors.chain import Chain
from .bijectors.mixture_logistic import MixtureLogistic


class AffineFamily(nn.Module):
    """y = x * exp(tanh(r_0)) + r_1, for parameters r of shape `(B, C, H, W, 2)`.

    Raises:
        ValueError: parameters of another shape.

    Source: Flow++ eqs. 13-16; the tanh is the released code's.
    """

    @property
    def parameters_per_scalar(self) -> int:
        """2."""
        return 2

    def forward(self, parameters: Tensor) -> Affine:
        """Member of the family: an `Affine`."""
        check_parameters(self, parameters)
        return Affine(torch.tanh(parameters[..., 0]), parameters[..., 1])


class MixtureLogisticFamily(nn.Module):
    """y = logit F(x; logits, means, log_scales) * exp(tanh(r_0)) + r_1.

    Parameters r have shape `(B, C, H, W, 2 + 3K)`: scale, shift, K logits, K means, K log-scales.

    Args:
        components: K.
        log_scale_floor: lower bound put on the log-scales; None for none.

    Raises:
        ValueError: fewer than 1 component, or parameters of another shape.

    Source: Flow++ eqs. 17-20; the floor of -7 is the released code's.
    """

    def __init__(self, components: int, log_scale_floor: float | None = None) -> None:
        super().__init__()
        if components < 1:
            raise ValueError(f"MixtureLogisticFamily needs at least 1 component, got {components}")
        self.components = components
        self.log_scale_floor = log_scale_floor

    @property
    def parameters_per_scalar(self) -> int:
        """2 + 3K."""
        return 2 + 3 * self.components

    def forward(self, parameters: Tensor) -> Chain:
        """Member of the family: a `Chain` of `MixtureLogistic` and `Affine`."""
        check_parameters(self, parameters)
        affine, logits, means, log_scales = parameters.split([2] + [self.components] * 3, dim=-1)
        if self.log_scale_floor is not None:
            log_scales = log_scales.clamp(min=self.log_scale_floor)
        return Chain(
            (
                MixtureLogistic(logits, means, log_scales),
                Affine(torch.tanh(affine[..., 0]), affine[..., 1]),
            )
        )

    def extra_repr(self) -> str:
        return f"components={self.components}, log_scale_floor={self.log_scale_floor}"


def check_parameters(family: AffineFamily | MixtureLogisticFamily, parameters: Tensor) -> None:
    """Refuse parameters whose last axis has not the family's number of them."""
    if parameters.ndim != 5 or parameters.shape[-1] != family.parameters_per_scalar:
        raise ValueError(
            f"{type(family).__name__} needs parameters "
            f"(batch, channels, height, width, {family.parameters_per_scalar}), "
            f"got shape {tuple(parameters.shape)}"
        )
