"""Convolution with optional weight normalization."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from reference.bijectors.bijector import Array
from reference.bijectors.checks import check_images
from reference.bijectors.fields import set_field

SQUARED_NORM_FLOOR = 1e-12
VARIANCE_OFFSET = 1e-8


@dataclass(frozen=True, eq=False)
class Conv2d:
    """Cross-correlation with zero padding that keeps height and width, and a bias.

    Attributes:
        weight: (out, in, kh, kw), kh and kw odd; 1x1 for a dense layer on channels.
        bias: (out,).
        gain: (out,) enables weight normalization: the kernel is gain * weight / ||weight||, the
            norm taken for each output channel, its square at least 1e-12.
        init_scale: standard deviation of the output after data-dependent initialization.
        init_mean: (out,), its mean after data-dependent initialization; None for 0.

    Raises:
        ValueError: inconsistent shapes, an even kernel, a wrong number of channels.
    """

    weight: Array
    bias: Array
    gain: Array | None = None
    init_scale: float = 1.0
    init_mean: Array | None = None

    def __post_init__(self) -> None:
        weight = set_field(self, "weight", ndim=4)
        out, _, *size = weight.shape
        if any(n % 2 == 0 for n in size):
            raise ValueError(f"Conv2d needs a kernel of odd size, got {tuple(size)}")
        for name in ("bias", "gain", "init_mean"):
            if getattr(self, name) is not None and set_field(self, name).shape != (out,):
                raise ValueError(
                    f"Conv2d needs {name} of shape ({out},), got {getattr(self, name).shape}"
                )

    @property
    def kernel(self) -> Array:
        """Kernel that is applied, (out, in, kh, kw): the weight, or its normalized form."""
        if self.gain is None:
            return self.weight
        squared = (self.weight**2).sum(axis=(1, 2, 3))
        factor = self.gain / np.sqrt(np.maximum(squared, SQUARED_NORM_FLOOR))
        return factor[:, None, None, None] * self.weight

    def __call__(self, x: Array) -> Array:
        """Convolve, (B, in, H, W) -> (B, out, H, W)."""
        return self._correlate(x) + self.bias[:, None, None]

    def initialize(self, x: Array) -> tuple[Conv2d, Array]:
        """Rescale such that every output channel has mean `init_mean`, deviation `init_scale`.

        With m and v the mean and (biased) variance of kernel * x over batch and positions,
        q = init_scale / sqrt(v + 1e-8): the weight (or the gain, where there is one) is multiplied
        by q, and the bias becomes init_mean - m q.
        """
        y = self._correlate(x)
        q = self.init_scale / np.sqrt(y.var(axis=(0, 2, 3)) + VARIANCE_OFFSET)
        bias = -y.mean(axis=(0, 2, 3)) * q
        if self.init_mean is not None:
            bias = self.init_mean + bias
        if self.gain is None:
            weight = self.weight * q[:, None, None, None]
            fitted = dataclasses.replace(self, weight=weight, bias=bias)
        else:
            fitted = dataclasses.replace(self, gain=self.gain * q, bias=bias)
        return fitted, fitted(x)

    def _correlate(self, x: Array) -> Array:
        x = check_images(x, self)
        kernel = self.kernel
        if x.shape[1] != kernel.shape[1]:
            raise ValueError(f"Conv2d needs {kernel.shape[1]} channels, got {x.shape[1]}")
        up, left = kernel.shape[2] // 2, kernel.shape[3] // 2
        padded = np.pad(x, ((0, 0), (0, 0), (up, up), (left, left)))
        windows = sliding_window_view(padded, kernel.shape[2:], axis=(2, 3))  # B, in, H, W, kh, kw
        return np.moveaxis(np.tensordot(windows, kernel, axes=((1, 4, 5), (1, 2, 3))), -1, 1)
