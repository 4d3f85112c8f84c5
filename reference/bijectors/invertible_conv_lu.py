"""The invertible 1x1 convolution in Glow's LU form: a log-det without a determinant."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import solve_triangular

from reference.bijectors import Bijector
from reference.bijectors.checks import set_array
from reference.bijectors.invertible_conv import as_groups


@dataclass(frozen=True, eq=False)
class InvertibleConvLU(Bijector):
    """y = W_g x per group, W_g = P_g (I + tril(lower, -1)) (triu(upper, 1) + diag(signs e^d)).

    Attributes:
        permutation: integers, (G, c): (P v)[i] = v[permutation[i]].
        lower: (G, c, c), only what is strictly below the diagonal is used.
        upper: (G, c, c), only what is strictly above the diagonal is used.
        log_diagonal: d, (G, c).
        signs: +1 or -1, (G, c).

    log_det = H W sum d.

    Raises:
        ValueError: on shapes that do not belong together, a row of `permutation` that is none,
            signs other than +1 and -1, or an input with another number of channels.
    """

    permutation: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    log_diagonal: np.ndarray
    signs: np.ndarray

    def __post_init__(self) -> None:
        permutation = set_array(self, "permutation", ndim=2)
        groups, size = permutation.shape
        if not (np.sort(permutation, axis=1) == np.arange(size)).all():
            raise ValueError(
                f"InvertibleConvLU needs permutations of 0 ... {size - 1}, "
                f"got {permutation.tolist()}"
            )
        object.__setattr__(self, "permutation", permutation.astype(np.int64))
        needed = {
            "lower": (groups, size, size),
            "upper": (groups, size, size),
            "log_diagonal": (groups, size),
            "signs": (groups, size),
        }
        for name, shape in needed.items():
            array = set_array(self, name)
            if array.shape != shape:
                raise ValueError(f"InvertibleConvLU needs {name} {shape}, got {array.shape}")
        if not (np.abs(self.signs) == 1.0).all():
            raise ValueError(f"InvertibleConvLU needs signs +1 or -1, got {self.signs.tolist()}")

    @property
    def _factors(self) -> tuple[np.ndarray, np.ndarray]:
        """(L, U) of every group, each (G, c, c)."""
        eye = np.eye(self.lower.shape[-1])
        diagonal = self.signs * np.exp(self.log_diagonal)
        return eye + np.tril(self.lower, -1), np.triu(self.upper, 1) + diagonal[..., None] * eye

    @property
    def weight(self) -> np.ndarray:
        """The matrices W_g, (G, c, c)."""
        lower, upper = self._factors
        return np.take_along_axis(lower @ upper, self.permutation[..., None], axis=1)

    def _log_det(self, shape: tuple[int, ...]) -> np.ndarray:
        batch, _, height, width = shape
        return np.full(batch, height * width * self.log_diagonal.sum())

    def forward(
        self, x: ArrayLike, context: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """(W x, log_det)."""
        groups = as_groups(x, self, *self.permutation.shape)
        y = np.einsum("gij,bgjhw->bgihw", self.weight, groups)
        shape = np.shape(x)
        return y.reshape(shape), self._log_det(shape)

    def inverse(
        self, y: ArrayLike, context: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Undo the permutation, then two triangular systems: (x, log_det)."""
        groups = as_groups(y, self, *self.permutation.shape)
        batch, _, size, height, width = groups.shape
        x = np.empty_like(groups)
        for g, (lower, upper) in enumerate(zip(*self._factors, strict=True)):
            columns = groups[:, g].transpose(1, 0, 2, 3).reshape(size, -1)
            columns = columns[np.argsort(self.permutation[g])]
            # check_finite=False: a NaN in the input is to reach the output, not to raise.
            columns = solve_triangular(
                lower, columns, lower=True, unit_diagonal=True, check_finite=False
            )
            columns = solve_triangular(upper, columns, check_finite=False)
            x[:, g] = columns.reshape(size, batch, height, width).transpose(1, 0, 2, 3)
        shape = np.shape(y)
        return x.reshape(shape), -self._log_det(shape)
