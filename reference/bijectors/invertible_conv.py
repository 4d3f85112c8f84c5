"""The invertible 1x1 convolution (Glow), with a plain matrix."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from reference.bijectors import Bijector
from reference.bijectors.checks import as_images, owner_name, set_array


@dataclass(frozen=True, eq=False)
class InvertibleConv(Bijector):
    """y[g c + i] = sum_j weight[g, i, j] x[g c + j], at every position.

    Attributes:
        weight: W, shape (G, c, c), for C = G c channels. G = 1 mixes all of them; G = 2 gives
            each half of a coupling's input its own matrix, as the released code does.

    log_det = H W sum_g log|det W_g|, from an LU factorization, never from the determinant itself.

    Raises:
        ValueError: if a matrix is not square, not finite or singular to working precision, or if
            the input has not G c channels.
    """

    weight: np.ndarray

    def __post_init__(self) -> None:
        weight = set_array(self, "weight", ndim=3)
        if weight.shape[1] != weight.shape[2]:
            raise ValueError(f"InvertibleConv needs weight of shape (G, c, c), got {weight.shape}")
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

    def _log_det(self, shape: tuple[int, ...]) -> np.ndarray:
        batch, _, height, width = shape
        return np.full(batch, height * width * np.linalg.slogdet(self.weight).logabsdet.sum())

    def forward(
        self, x: ArrayLike, context: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """(W x, log_det)."""
        groups = as_groups(x, self, *self.weight.shape[:2])
        y = np.einsum("gij,bgjhw->bgihw", self.weight, groups)
        shape = np.shape(x)
        return y.reshape(shape), self._log_det(shape)

    def inverse(
        self, y: ArrayLike, context: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """(W^-1 y, log_det), by solving a linear system for each group."""
        groups = as_groups(y, self, *self.weight.shape[:2])
        batch, count, size, height, width = groups.shape
        columns = groups.transpose(1, 2, 0, 3, 4).reshape(count, size, -1)
        x = np.linalg.solve(self.weight, columns).reshape(count, size, batch, height, width)
        shape = np.shape(y)
        return x.transpose(2, 0, 1, 3, 4).reshape(shape), -self._log_det(shape)


def as_groups(x: ArrayLike, owner: Bijector, groups: int, size: int) -> np.ndarray:
    """(B, G c, H, W) -> (B, G, c, H, W).

    Raises:
        ValueError: if the input has not groups * size channels.
    """
    x = as_images(x, owner)
    batch, channels, height, width = x.shape
    if channels != groups * size:
        raise ValueError(
            f"{owner_name(owner)} needs {groups * size} channels "
            f"({groups} groups of {size}), got {channels}"
        )
    return x.reshape(batch, groups, size, height, width)


def is_singular(matrix: np.ndarray) -> bool:
    """Whether a matrix is singular to working precision, rows and columns of any scale apart.

    Rows and columns are first brought to a largest entry of 1, so that diag(1e-20, 1), which is
    perfectly invertible, is not mistaken for a singular matrix.
    """
    for axis in (1, 0):
        largest = np.abs(matrix).max(axis=axis, keepdims=True)
        if not largest.all():
            return True
        matrix = matrix / largest
    singular_values = np.linalg.svd(matrix, compute_uv=False)
    return bool(singular_values[-1] <= len(matrix) * np.finfo(float).eps * singular_values[0])
