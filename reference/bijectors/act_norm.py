"""Activation normalization (Glow), per activation or per channel."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from reference.bijectors import Bijector
from reference.bijectors.checks import as_images, set_array

MIN_GAIN = 1e-10
VARIANCE_FLOOR = 1e-8


@dataclass(frozen=True, eq=False)
class ActNorm(Bijector):
    """y = x * max(gain, 1e-10) + bias.

    Attributes:
        gain: (C, H, W), one per activation as in the released code, or (C, 1, 1), one per channel.
        bias: the same shape.

    Raises:
        ValueError: on shapes that do not belong together or not to the input.
    """

    gain: np.ndarray
    bias: np.ndarray

    def __post_init__(self) -> None:
        gain, bias = set_array(self, "gain", ndim=3), set_array(self, "bias", ndim=3)
        if gain.shape != bias.shape:
            raise ValueError(
                f"ActNorm needs gain and bias of one shape, got {gain.shape} and {bias.shape}"
            )

    def _checked(self, x: ArrayLike) -> np.ndarray:
        x = as_images(x, self)
        channels = x.shape[1]
        if self.gain.shape not in (x.shape[1:], (channels, 1, 1)):
            raise ValueError(
                f"ActNorm needs a gain of shape {x.shape[1:]} or {(channels, 1, 1)} "
                f"for an input {x.shape}, got {self.gain.shape}"
            )
        return x

    def _log_det(self, shape: tuple[int, ...]) -> np.ndarray:
        log_gain = np.log(np.maximum(self.gain, MIN_GAIN))
        return np.full(shape[0], np.broadcast_to(log_gain, shape[1:]).sum())

    def forward(
        self, x: ArrayLike, context: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Scale and shift: (y, log_det)."""
        x = self._checked(x)
        return x * np.maximum(self.gain, MIN_GAIN) + self.bias, self._log_det(x.shape)

    def inverse(
        self, y: ArrayLike, context: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Undo it: (x, log_det)."""
        y = self._checked(y)
        return (y - self.bias) / np.maximum(self.gain, MIN_GAIN), -self._log_det(y.shape)

    def initialize(
        self, x: ArrayLike, context: np.ndarray | None = None
    ) -> tuple[ActNorm, np.ndarray]:
        """Make the batch come out normal: gain = 1 / sqrt(var + 1e-8), bias = -mean * gain.

        Mean and (biased) variance run over the axes the gain does not have: the batch alone where
        there is one gain per activation; batch, height and width where there is one per channel.
        """
        x = self._checked(x)
        axes = (0,) + tuple(i for i in (2, 3) if self.gain.shape[i - 1] == 1)
        gain = 1.0 / np.sqrt(x.var(axis=axes, keepdims=True) + VARIANCE_FLOOR)
        bias = -x.mean(axis=axes, keepdims=True) * gain
        fitted = dataclasses.replace(self, gain=gain[0], bias=bias[0])
        return fitted, fitted.forward(x)[0]
