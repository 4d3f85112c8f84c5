"""Activation normalization: a scale and shift, initialized from the first batch."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from reference.bijectors.bijector import Array, Bijector
from reference.bijectors.fields import set_field

GAIN_FLOOR = 1e-10
VARIANCE_OFFSET = 1e-8


@dataclass(frozen=True, eq=False)
class ActNorm(Bijector):
    """y = x * max(gain, 1e-10) + bias.

    Attributes:
        gain: (C, H, W), one per activation as in the released code, or (C, 1, 1), one per channel.
        bias: the same shape.

    Raises:
        ValueError: gain and bias of unequal shapes, or of shapes that do not fit the input.

    Source: Kingma and Dhariwal 2018, section 3.1; Flow++ section 3.2.
    """

    gain: Array
    bias: Array

    def __post_init__(self) -> None:
        gain, bias = set_field(self, "gain", ndim=3), set_field(self, "bias", ndim=3)
        if gain.shape != bias.shape:
            raise ValueError(
                f"ActNorm needs gain and bias of one shape, got {gain.shape} and {bias.shape}"
            )

    def forward(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        return x * self._gain() + self.bias, self._log_det(x)

    def inverse(self, y: Array, context: Array | None = None) -> tuple[Array, Array]:
        return (y - self.bias) / self._gain(), -self._log_det(y)

    def initialize(self, x: Array, context: Array | None = None) -> tuple[ActNorm, Array]:
        """Normalize the batch: gain = 1 / sqrt(var + 1e-8), bias = -mean * gain.

        Mean and (biased) variance are taken over the batch, and over height and width where they
        share a gain.
        """
        axes = (0,) + tuple(axis for axis in (2, 3) if self.gain.shape[axis - 1] == 1)
        gain = 1.0 / np.sqrt(x.var(axis=axes, keepdims=True) + VARIANCE_OFFSET)
        bias = -x.mean(axis=axes, keepdims=True) * gain
        fitted = dataclasses.replace(self, gain=gain[0], bias=bias[0])
        return fitted, fitted.forward(x)[0]

    def check_fields(self, x: Array, owner: str) -> None:
        per_activation, per_channel = x.shape[1:], (x.shape[1], 1, 1)
        if self.gain.shape not in (per_activation, per_channel):
            raise ValueError(
                f"{owner} needs a gain of shape {per_activation} or {per_channel} "
                f"for an input {x.shape}, got {self.gain.shape}"
            )

    def _gain(self) -> Array:
        return np.maximum(self.gain, GAIN_FLOOR)

    def _log_det(self, x: Array) -> Array:
        return np.full(len(x), np.broadcast_to(np.log(self._gain()), x.shape[1:]).sum())
