"""Invertible 1x1 convolution with a full matrix."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from reference.bijectors.bijector import Array, Bijector
from reference.bijectors.fields import set_field

EIGENVALUE_FLOOR = 1e-3


@dataclass(frozen=True, eq=False)
class InvertibleConv(Bijector):
    """y[g, i] = sum_j W[g, i, j] x[g, j] at every position, channels in G groups.

    Attributes:
        weight: (G, c, c), for G * c channels. One group mixes all channels (Glow); two groups mix
            each half of a split separately (Flow++'s released code).
        whiten: whether data-dependent initialization makes W whiten the first batch.

    Raises:
        ValueError: weights of another shape, another number of channels than G * c, or a matrix
            that is not finite or is singular to working precision.

    Numerics: log_det = H * W * sum_g log|det W_g|, from an LU factorization, never from the
    determinant itself.

    Source: Kingma and Dhariwal 2018, eq. 9.
    """

    weight: Array
    whiten: bool = False

    def __post_init__(self) -> None:
        weight = set_field(self, "weight", ndim=3)
        if weight.shape[1] != weight.shape[2]:
            raise ValueError(
                f"InvertibleConv needs a weight of shape (G, c, c), got {weight.shape}"
            )
        if not np.isfinite(weight).all():
            raise ValueError(
                "InvertibleConv needs a finite weight, got "
                f"{np.count_nonzero(~np.isfinite(weight))} values that are not"
            )
        for group, matrix in enumerate(weight):
            if is_singular(matrix):
                raise ValueError(
                    f"InvertibleConv needs invertible matrices, got a singular one, group {group}"
                )

    def forward(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        return mix_channels(x, self.weight), self._log_det(x)

    def inverse(self, y: Array, context: Array | None = None) -> tuple[Array, Array]:
        groups = in_groups(y, len(self.weight))
        batch, count, size, height, width = groups.shape
        columns = groups.transpose(1, 2, 0, 3, 4).reshape(count, size, -1)
        x = np.linalg.solve(self.weight, columns).reshape(count, size, batch, height, width)
        return x.transpose(2, 0, 1, 3, 4).reshape(y.shape), -self._log_det(y)

    def initialize(self, x: Array, context: Array | None = None) -> tuple[InvertibleConv, Array]:
        """If `whiten`, whiten the batch: W_g = C_g^(-1/2), the symmetric root.

        C_g is the (biased) covariance of the channels of group g over batch and positions; its
        eigenvalues count as at least 1e-3.
        """
        if not self.whiten:
            return super().initialize(x, context)
        fitted = dataclasses.replace(self, weight=whitening(x, len(self.weight)))
        return fitted, fitted.forward(x)[0]

    def check_fields(self, x: Array, owner: str) -> None:
        check_channels(x, self.weight.shape[0] * self.weight.shape[1], owner)

    def _log_det(self, x: Array) -> Array:
        batch, _, height, width = x.shape
        return np.full(batch, height * width * np.linalg.slogdet(self.weight).logabsdet.sum())


def mix_channels(x: Array, weight: Array) -> Array:
    """Multiply each group of channels by its matrix, (B, G*c, H, W) by (G, c, c)."""
    y = np.einsum("gij,bgjhw->bgihw", weight, in_groups(x, len(weight)))
    return y.reshape(x.shape)


def whitening(x: Array, groups: int) -> Array:
    """Compute the symmetric whitening matrices of groups of channels, (G, c, c).

    Raises:
        ValueError: values that are not finite.
    """
    wrong = np.count_nonzero(~np.isfinite(x))
    if wrong:
        raise ValueError(f"whitening needs finite inputs, got {wrong} that are not")
    matrices = []
    for group in np.moveaxis(in_groups(x, groups), 1, 0):
        columns = np.moveaxis(group, 1, 0).reshape(group.shape[1], -1)
        centred = columns - columns.mean(axis=1, keepdims=True)
        variances, axes = np.linalg.eigh(centred @ centred.T / columns.shape[1])
        scales = 1.0 / np.sqrt(np.maximum(variances, EIGENVALUE_FLOOR))
        matrices.append(axes @ np.diag(scales) @ axes.T)
    return np.stack(matrices)


def in_groups(x: Array, groups: int) -> Array:
    """Split the channels into groups: (B, G*c, H, W) -> (B, G, c, H, W)."""
    batch, channels, height, width = x.shape
    return x.reshape(batch, groups, channels // groups, height, width)


def check_channels(x: Array, channels: int, owner: str) -> None:
    """Raise ValueError unless x has this number of channels."""
    if x.shape[1] != channels:
        raise ValueError(f"{owner} needs {channels} channels, got {x.shape[1]}")


def is_singular(matrix: Array) -> bool:
    """Return whether a matrix is singular to working precision, whatever its scale.

    Rows and columns are first scaled to a largest entry of 1, so that a badly scaled but
    invertible matrix such as diag(1e-20, 1) is not taken for a singular one.
    """
    for axis in (1, 0):
        largest = np.abs(matrix).max(axis=axis, keepdims=True)
        if not largest.all():
            return True
        matrix = matrix / largest
    singular_values = np.linalg.svd(matrix, compute_uv=False)
    return bool(singular_values[-1] <= len(matrix) * np.finfo(float).eps * singular_values[0])
