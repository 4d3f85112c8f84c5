"""Families of elementwise bijectors, indexed by the output of a coupling's network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reference.bijectors.affine import Affine
from reference.bijectors.bijector import Array
from reference.bijectors.chain import Chain
from reference.bijectors.mixture_logistic import MixtureLogistic

SPREAD_MEANS = 1.5
SPREAD_SCALE = 0.6


@dataclass(frozen=True)
class AffineFamily:
    """y = x * exp(tanh(r_0)) + r_1, for parameters r of shape (B, C, H, W, 2).

    Raises:
        ValueError: parameters of another shape.

    Source: Flow++ eqs. 13-16; the tanh is the released code's.
    """

    @property
    def parameters_per_scalar(self) -> int:
        """P = 2."""
        return 2

    def __call__(self, parameters: Array) -> Affine:
        """Return the member of these parameters: an `Affine`."""
        check_parameters(self, parameters)
        return Affine(log_scale=np.tanh(parameters[..., 0]), shift=parameters[..., 1])


@dataclass(frozen=True)
class MixtureLogisticFamily:
    """y = logit F(x; logits, means, log_scales) * exp(tanh(r_0)) + r_1.

    Parameters r have shape (B, C, H, W, 2 + 3K): scale, shift, K logits, K means, K log-scales.

    Attributes:
        components: K.
        log_scale_floor: lower bound of the log-scales; None for no bound.

    Raises:
        ValueError: fewer than 1 component, or parameters of another shape.

    Source: Flow++ eqs. 17-20; the floor of -7 is the released code's.
    """

    components: int
    log_scale_floor: float | None = None

    def __post_init__(self) -> None:
        if self.components < 1:
            raise ValueError(
                f"MixtureLogisticFamily needs at least 1 component, got {self.components}"
            )

    @property
    def parameters_per_scalar(self) -> int:
        """P = 2 + 3K."""
        return 2 + 3 * self.components

    def spread(self) -> Array:
        """Compute parameters (P,) to start from: means evenly in [-1.5, 1.5], scales of 0.6.

        Scale, shift and logits are 0; a single component has the mean 0.
        """
        k = self.components
        means = np.linspace(-SPREAD_MEANS, SPREAD_MEANS, k) if k > 1 else np.zeros(1)
        return np.concatenate([np.zeros(2 + k), means, np.full(k, np.log(SPREAD_SCALE))])

    def __call__(self, parameters: Array) -> Chain:
        """Return the member of these parameters: a `Chain` of `MixtureLogistic` and `Affine`."""
        check_parameters(self, parameters)
        scale, shift = parameters[..., 0], parameters[..., 1]
        logits, means, log_scales = np.split(parameters[..., 2:], 3, axis=-1)
        if self.log_scale_floor is not None:
            log_scales = np.maximum(log_scales, self.log_scale_floor)
        return Chain(
            (
                MixtureLogistic(logits=logits, means=means, log_scales=log_scales),
                Affine(log_scale=np.tanh(scale), shift=shift),
            )
        )


def check_parameters(family: AffineFamily | MixtureLogisticFamily, parameters: Array) -> None:
    """Raise ValueError unless the last axis has the family's number of parameters."""
    if parameters.ndim != 5 or parameters.shape[-1] != family.parameters_per_scalar:
        raise ValueError(
            f"{type(family).__name__} needs parameters "
            f"(batch, channels, height, width, {family.parameters_per_scalar}), "
            f"got shape {parameters.shape}"
        )
