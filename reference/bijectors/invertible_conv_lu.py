"""Invertible 1x1 convolution parameterized by the factors P L U of its matrix."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import lu, solve_triangular

from reference.bijectors.bijector import Array, Bijector
from reference.bijectors.fields import set_field
from reference.bijectors.invertible_conv import (
    check_channels,
    in_groups,
    mix_channels,
    whitening,
)


@dataclass(frozen=True, eq=False)
class InvertibleConvLU(Bijector):
    """y = P (I + L) (U + diag(sign * exp(log_diagonal))) x at every position.

    Attributes:
        permutation: integers (G, c), channels in G groups; (P v)[i] = v[permutation[i]].
        lower: L, (G, c, c); only the part below the diagonal is used.
        upper: U, (G, c, c); only the part above the diagonal is used.
        log_diagonal: (G, c), logarithm of the diagonal's absolute values.
        signs: (G, c), +1 or -1.
        whiten: whether data-dependent initialization makes the product whiten the first batch.

    Raises:
        ValueError: fields of inconsistent shapes, a row of `permutation` that is not a
            permutation, signs other than +1 and -1, or another number of channels than G * c.

    Numerics: never singular; log|det| = sum log_diagonal; the inverse is two triangular solves.

    Source: Kingma and Dhariwal 2018, eqs. 10 and 11.
    """

    permutation: Array
    lower: Array
    upper: Array
    log_diagonal: Array
    signs: Array
    whiten: bool = False

    def __post_init__(self) -> None:
        permutation = set_field(self, "permutation", ndim=2)
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
            array = set_field(self, name)
            if array.shape != shape:
                raise ValueError(f"InvertibleConvLU needs {name} {shape}, got {array.shape}")
        if not (np.abs(self.signs) == 1.0).all():
            raise ValueError(f"InvertibleConvLU needs signs +1 or -1, got {self.signs.tolist()}")

    @property
    def weight(self) -> Array:
        """Matrices W_g = P_g (I + L_g) (U_g + diag), (G, c, c)."""
        lower, upper = self._factors()
        return np.take_along_axis(lower @ upper, self.permutation[..., None], axis=1)

    def forward(self, x: Array, context: Array | None = None) -> tuple[Array, Array]:
        return mix_channels(x, self.weight), self._log_det(x)

    def inverse(self, y: Array, context: Array | None = None) -> tuple[Array, Array]:
        groups = in_groups(y, len(self.permutation))
        batch, _, size, height, width = groups.shape
        x = np.empty_like(groups)
        for g, (lower, upper) in enumerate(zip(*self._factors(), strict=True)):
            columns = groups[:, g].transpose(1, 0, 2, 3).reshape(size, -1)
            columns = columns[np.argsort(self.permutation[g])]
            # check_finite=False: a NaN in the input must reach the output instead of raising.
            columns = solve_triangular(
                lower, columns, lower=True, unit_diagonal=True, check_finite=False
            )
            columns = solve_triangular(upper, columns, check_finite=False)
            x[:, g] = columns.reshape(size, batch, height, width).transpose(1, 0, 2, 3)
        return x.reshape(y.shape), -self._log_det(y)

    def initialize(self, x: Array, context: Array | None = None) -> tuple[InvertibleConvLU, Array]:
        """If `whiten`, factor the matrices that whiten the batch; see `InvertibleConv`."""
        if not self.whiten:
            return super().initialize(x, context)
        fitted = InvertibleConvLU(*_fields(whitening(x, len(self.signs))), whiten=True)
        return fitted, fitted.forward(x)[0]

    def check_fields(self, x: Array, owner: str) -> None:
        check_channels(x, self.permutation.size, owner)

    def _factors(self) -> tuple[Array, Array]:
        """Return the triangular factors of every group, each (G, c, c)."""
        identity = np.eye(self.lower.shape[-1])
        diagonal = (self.signs * np.exp(self.log_diagonal))[..., None] * identity
        return np.tril(self.lower, -1) + identity, np.triu(self.upper, 1) + diagonal

    def _log_det(self, x: Array) -> Array:
        batch, _, height, width = x.shape
        return np.full(batch, height * width * self.log_diagonal.sum())


def _fields(weight: Array) -> tuple[Array, Array, Array, Array, Array]:
    """Factor (G, c, c) matrices: permutation, L, U, logarithms of the diagonal, and its signs."""
    permutation, lower, upper = lu(weight)
    diagonal = np.diagonal(upper, axis1=1, axis2=2)
    # Row i of P is the unit vector of the entry that (P v)[i] picks.
    return (
        permutation.argmax(axis=2),
        np.tril(lower, -1),
        np.triu(upper, 1),
        np.log(np.abs(diagonal)),
        np.sign(diagonal),
    )
