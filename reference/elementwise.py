"""Families of elementwise bijectors: from a conditioner's raw output to the map of a coupling."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reference.bijectors import Affine, Chain, MixtureLogistic


@dataclass(frozen=True)
class AffineFamily:
    """r = [s, t] -> Affine(tanh(s), t): the coupling of RealNVP, and of the paper's ablation."""

    @property
    def parameters_per_scalar(self) -> int:
        """P = 2."""
        return 2

    def __call__(self, parameters: np.ndarray) -> Affine:
        """The map of raw parameters of shape (B, C, H, W, 2)."""
        check_parameters(self, parameters)
        return Affine(log_scale=np.tanh(parameters[..., 0]), shift=parameters[..., 1])


@dataclass(frozen=True)
class MixtureLogisticFamily:
    """r = [s, t, logits, means, log_scales] -> Affine(tanh(s), t) after MixtureLogistic.

    Section 3.2.1 of the paper: y = logit(MixLogCDF(x; logits, means, log_scales)) exp(a) + b.

    Attributes:
        components: K.
        log_scale_floor: lower bound of the log-scales, -7 in the released code; None for none.

    Raises:
        ValueError: on fewer than one component.
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
        """P = 2 + 3 K."""
        return 2 + 3 * self.components

    def __call__(self, parameters: np.ndarray) -> Chain:
        """The map of raw parameters of shape (B, C, H, W, 2 + 3 K)."""
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


def check_parameters(family: AffineFamily | MixtureLogisticFamily, parameters: np.ndarray) -> None:
    """Raise ValueError unless the last axis has the family's number of parameters."""
    if parameters.ndim != 5 or parameters.shape[-1] != family.parameters_per_scalar:
        raise ValueError(
            f"{type(family).__name__} needs parameters "
            f"(batch, channels, height, width, {family.parameters_per_scalar}), "
            f"got shape {parameters.shape}"
        )
