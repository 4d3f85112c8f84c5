"""Families of elementwise bijectors, indexed by the output of a coupling's network.

`family(parameters)` is a member as a bijector. A coupling uses `transform` and `inverse_transform`
instead: the same maps by the same functions, without building a module in every pass.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from .bijectors.affine import Affine, affine, affine_inverse
from .bijectors.chain import Chain
from .bijectors.log_dets import sum_per_example
from .bijectors.mixture_logistic import MixtureLogistic
from .kernels.mixture_logistic import packed_inverse_logit_cdf, packed_logit_cdf

SPREAD_MEANS = 1.5
"""Largest mean of the spread mixture that a coupling may start from."""

SPREAD_SCALE = 0.6
"""Scale of its components."""


class Family(nn.Module):
    """A family of elementwise bijectors, indexed by parameters `(B, C, H, W, P)`.

    A subclass defines P as `parameters_per_scalar`, and `forward`, which returns a member. It may
    override `transform` and `inverse_transform` by equal maps that build no member. A subclass
    or mixin that redefines `forward` or `fields` alone gets the default ones, so that couplings
    follow it.
    """

    reads_bfloat16 = False
    """Whether `transform` and `inverse_transform` accept parameters in bfloat16 for an input in
    float32. A coupling converts them for all other families."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        defined = [_position(cls, name) for name in ("forward", "fields") if hasattr(cls, name)]
        for name in ("transform", "inverse_transform"):
            if min(defined) < _position(cls, name):
                setattr(cls, name, vars(Family)[name])
                cls.reads_bfloat16 = False

    def transform(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Map x forward by the member of these parameters: `(y, log_det)`."""
        return self(parameters).forward(x)

    def inverse_transform(self, y: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Map y back by the member of these parameters: `(x, log_det)`."""
        return self(parameters).inverse(y)


def _position(cls: type, name: str) -> int:
    """Return the position, in the resolution order of `cls`, of the class that defines `name`."""
    return next(i for i, base in enumerate(cls.__mro__) if name in vars(base))


class AffineFamily(Family):
    """y = x * exp(tanh(r_0)) + r_1, for parameters r of shape `(B, C, H, W, 2)`.

    Raises:
        ValueError: parameters of another shape.

    Source: Flow++ eqs. 13-16; the tanh is the released code's.
    """

    @property
    def parameters_per_scalar(self) -> int:
        """P = 2."""
        return 2

    def forward(self, parameters: Tensor) -> Affine:
        """Return the member of these parameters: an `Affine`."""
        return Affine(*self.fields(parameters))

    def transform(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Map x forward by the member of these parameters: `(y, log_det)`."""
        return affine(x, *self.fields(parameters))

    def inverse_transform(self, y: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Map y back by the member of these parameters: `(x, log_det)`."""
        return affine_inverse(y, *self.fields(parameters))

    def fields(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Return `log_scale` and `shift` of the `Affine`."""
        check_parameters(self, parameters)
        return torch.tanh(parameters[..., 0]), parameters[..., 1]


class MixtureLogisticFamily(Family):
    """y = logit F(x; logits, means, log_scales) * exp(tanh(r_0)) + r_1.

    Parameters r have shape `(B, C, H, W, 2 + 3K)`: scale, shift, K logits, K means, K log-scales.

    Args:
        components: K.
        log_scale_floor: lower bound of the log-scales; None for no bound.

    Raises:
        ValueError: fewer than 1 component, or parameters of another shape.

    Source: Flow++ eqs. 17-20; the floor of -7 is the released code's.
    """

    reads_bfloat16 = True

    def __init__(self, components: int, log_scale_floor: float | None = None) -> None:
        super().__init__()
        if components < 1:
            raise ValueError(f"MixtureLogisticFamily needs at least 1 component, got {components}")
        self.components = components
        self.log_scale_floor = log_scale_floor

    @property
    def parameters_per_scalar(self) -> int:
        """P = 2 + 3K."""
        return 2 + 3 * self.components

    def spread(self) -> Tensor:
        """Return parameters `(P,)` to start from: means evenly in [-1.5, 1.5], scales of 0.6.

        In float64. Components that start equal have equal gradients but for the noise of the
        weights, and separate slowly.
        """
        parameters = torch.zeros(self.parameters_per_scalar, dtype=torch.float64)
        _, means, log_scales = parameters[2:].view(3, self.components)
        if self.components > 1:
            means.copy_(
                torch.linspace(-SPREAD_MEANS, SPREAD_MEANS, self.components, dtype=torch.float64)
            )
        log_scales.fill_(math.log(SPREAD_SCALE))
        return parameters

    def forward(self, parameters: Tensor) -> Chain:
        """Return the member of these parameters: a `Chain` of `MixtureLogistic` and `Affine`."""
        mixture, affine_fields = self.fields(parameters)
        return Chain((MixtureLogistic(*mixture), Affine(*affine_fields)))

    def transform(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Map x forward by the member of these parameters: `(y, log_det)`."""
        check_parameters(self, parameters)
        h, log_derivative, (scale, shift) = packed_logit_cdf(x, parameters, self._floor())
        y, affine_log_det = affine(h, torch.tanh(scale), shift)
        return y, sum_per_example(log_derivative) + affine_log_det

    def inverse_transform(self, y: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Map y back by the member of these parameters: `(x, log_det)`."""
        check_parameters(self, parameters)
        scale, shift = parameters[..., :2].to(y.dtype).unbind(-1)
        h, affine_log_det = affine_inverse(y, torch.tanh(scale), shift)
        x = packed_inverse_logit_cdf(h, parameters, self._floor())
        _, log_derivative, _ = packed_logit_cdf(x, parameters, self._floor())
        return x, affine_log_det - sum_per_example(log_derivative)

    def fields(
        self, parameters: Tensor
    ) -> tuple[tuple[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Return the fields of the `MixtureLogistic` and those of the `Affine` after it."""
        check_parameters(self, parameters)
        scale_shift, logits, means, log_scales = parameters.split(
            [2] + [self.components] * 3, dim=-1
        )
        if self.log_scale_floor is not None:
            log_scales = log_scales.clamp(min=self.log_scale_floor)
        return (
            (logits, means, log_scales),
            (torch.tanh(scale_shift[..., 0]), scale_shift[..., 1]),
        )

    def _floor(self) -> float:
        return -math.inf if self.log_scale_floor is None else self.log_scale_floor

    def extra_repr(self) -> str:
        return f"components={self.components}, log_scale_floor={self.log_scale_floor}"


def check_parameters(family: AffineFamily | MixtureLogisticFamily, parameters: Tensor) -> None:
    """Raise ValueError unless the last axis has the family's number of parameters."""
    if parameters.ndim != 5 or parameters.shape[-1] != family.parameters_per_scalar:
        raise ValueError(
            f"{type(family).__name__} needs parameters "
            f"(batch, channels, height, width, {family.parameters_per_scalar}), "
            f"got shape {tuple(parameters.shape)}"
        )
