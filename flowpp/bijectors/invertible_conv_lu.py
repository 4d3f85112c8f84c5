"""Invertible 1x1 convolution parameterized by the factors P L U of its matrix."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..kernels.pointwise import is_rounded
from .bijector import Bijector
from .invertible_conv import check_channels, mix_channels, whitening


class InvertibleConvLU(Bijector):
    """y = P (I + L) (U + diag(sign * exp(log_diagonal))) x at every position.

    Args:
        permutation: integers `(G, c)`, channels in G groups; (P v)[i] = v[permutation[i]]. Fixed.
        lower: L, `(G, c, c)`; only the part below the diagonal is used.
        upper: U, `(G, c, c)`; only the part above the diagonal is used.
        log_diagonal: `(G, c)`, logarithm of the diagonal's absolute values.
        signs: `(G, c)`, +1 or -1. Fixed.
        whiten: whether data-dependent initialization makes the product whiten the first batch.

    Raises:
        ValueError: fields of inconsistent shapes, a row of `permutation` that is not a
            permutation, signs other than +1 and -1 (a singular matrix has a sign of 0), or another
            number of channels than G * c.

    Numerics: never singular; log|det| = sum log_diagonal; the inverse is two triangular solves.
    Where torch might round products of float32, the matrices are multiplied in float64.

    Source: Kingma and Dhariwal 2018, eqs. 10 and 11.
    """

    permutation: Tensor
    signs: Tensor

    def __init__(
        self,
        permutation: Tensor,
        lower: Tensor,
        upper: Tensor,
        log_diagonal: Tensor,
        signs: Tensor,
        *,
        whiten: bool = False,
    ) -> None:
        super().__init__()
        if permutation.ndim != 2:
            raise ValueError(
                f"InvertibleConvLU needs a permutation (groups, c), got {tuple(permutation.shape)}"
            )
        groups, size = permutation.shape
        shapes = [tuple(lower.shape), tuple(upper.shape), tuple(log_diagonal.shape)]
        square, flat = (groups, size, size), (groups, size)
        if shapes != [square, square, flat] or tuple(signs.shape) != flat:
            raise ValueError(
                f"InvertibleConvLU needs lower and upper {square}, log_diagonal and signs {flat}, "
                f"got {', '.join(map(str, shapes))} and {tuple(signs.shape)}"
            )
        _check_values(permutation, signs)
        self.register_buffer("permutation", permutation.long())
        self.lower = nn.Parameter(lower)
        self.upper = nn.Parameter(upper)
        self.log_diagonal = nn.Parameter(log_diagonal)
        self.register_buffer("signs", signs)
        self.whiten = whiten

    @classmethod
    def from_matrix(cls, weight: Tensor, *, whiten: bool = False) -> InvertibleConvLU:
        """Factor `(G, c, c)` matrices."""
        return cls(*_fields(weight), whiten=whiten)

    @classmethod
    def create(cls, channels: int, groups: int = 1, *, whiten: bool = False) -> InvertibleConvLU:
        """Create Glow's initial weights: a random rotation."""
        size = channels // groups
        rotations = torch.linalg.qr(torch.randn(groups, size, size)).Q
        return cls.from_matrix(rotations, whiten=whiten)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        lower, upper = self._factors(x)
        product = torch.gather(lower @ upper, 1, self._rows())
        return mix_channels(x, product.to(self.lower.dtype)), self._log_det(x)

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        lower, upper = self._factors(y)
        identity = torch.eye(lower.shape[-1], dtype=lower.dtype, device=y.device)
        # (P M)[i] = M[permutation[i]], so P^-1 scatters the rows back.
        unpermuted = torch.zeros_like(lower).scatter(1, self._rows(), identity.expand_as(lower))
        half = torch.linalg.solve_triangular(lower, unpermuted, upper=False, unitriangular=True)
        inverse = torch.linalg.solve_triangular(upper, half, upper=True)
        return mix_channels(y, inverse.to(self.lower.dtype)), -self._log_det(y)

    @torch.no_grad()
    def initialize(self, x: Tensor) -> None:
        """If `whiten`, factor the matrices that whiten the batch; see `InvertibleConv`."""
        self.check_input(x)
        if self.whiten:
            own = self.permutation, self.lower, self.upper, self.log_diagonal, self.signs
            for tensor, value in zip(own, _fields(whitening(x, len(self.signs))), strict=True):
                tensor.copy_(value)

    def check_fields(self, x: Tensor, owner: str) -> None:
        check_channels(x, self.permutation.numel(), owner)

    def _factors(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the triangular matrices, in float64 where products might be rounded."""
        identity = torch.eye(
            self.lower.shape[-1], dtype=self.lower.dtype, device=self.lower.device
        )
        diagonal = torch.diag_embed(self.signs * torch.exp(self.log_diagonal))
        lower, upper = self.lower.tril(-1) + identity, self.upper.triu(1) + diagonal
        return (lower.double(), upper.double()) if is_rounded(x) else (lower, upper)

    def _rows(self) -> Tensor:
        return self.permutation[:, :, None].expand(-1, -1, self.permutation.shape[1])

    def _log_det(self, x: Tensor) -> Tensor:
        return (x.shape[2] * x.shape[3] * self.log_diagonal.sum()).expand(x.shape[0])


def _fields(weight: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Factor `(G, c, c)` matrices into the permutation, L, U, log of the diagonal, and signs."""
    permutation, lower, upper = torch.linalg.lu(weight)
    diagonal = torch.diagonal(upper, dim1=-2, dim2=-1)
    return (
        permutation.argmax(-1),  # row i of P is the unit vector of the entry that (P v)[i] picks
        lower.tril(-1),
        upper.triu(1),
        diagonal.abs().log(),
        diagonal.sign(),
    )


def _check_values(permutation: Tensor, signs: Tensor) -> None:
    """Raise ValueError on rows that are not permutations or signs that are not +1 or -1."""
    # Tensors on the meta device have no values to check.
    if permutation.is_meta or signs.is_meta:
        return
    size = permutation.shape[1]
    if not (permutation.sort(1).values == torch.arange(size, device=permutation.device)).all():
        raise ValueError(
            f"InvertibleConvLU needs permutations of 0 ... {size - 1}, got {permutation.tolist()}"
        )
    if not (signs.abs() == 1).all():
        raise ValueError(f"InvertibleConvLU needs signs +1 or -1, got {signs.tolist()}")
