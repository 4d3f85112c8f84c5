"""Invertible 1x1 convolution with a full matrix."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..kernels.pointwise import pointwise
from .bijector import Bijector
from .checks import may_read_values

EIGENVALUE_FLOOR = 1e-3
"""Smallest variance that the whitening initialization scales to 1: it amplifies by at most 32."""


class InvertibleConv(Bijector):
    """y[g, i] = sum_j W[g, i, j] x[g, j] at every position, channels in G groups.

    Args:
        weight: `(G, c, c)`, for G * c channels. One group mixes all channels (Glow); two groups
            mix each half of a split separately (Flow++'s released code).
        whiten: whether data-dependent initialization makes W whiten the first batch.

    Raises:
        ValueError: weights of another shape, another number of channels than G * c, or a singular
            or non-finite matrix. In training on a CUDA device, and in compiled modules, log_det
            is infinite or NaN instead.

    Numerics: log_det = H * W * sum_g log|det W_g|, by LU in float64 whatever the dtype. The
    inverse is computed in float64 too; a matrix singular to float64's precision is an error.

    Source: Kingma and Dhariwal 2018, eq. 9.
    """

    def __init__(self, weight: Tensor, *, whiten: bool = False) -> None:
        super().__init__()
        if weight.ndim != 3 or weight.shape[1] != weight.shape[2]:
            raise ValueError(
                f"InvertibleConv needs a weight (groups, c, c), got {tuple(weight.shape)}"
            )
        self.weight = nn.Parameter(weight)
        self.whiten = whiten

    @classmethod
    def create(
        cls, channels: int, groups: int = 1, noise: float = 1e-3, *, whiten: bool = False
    ) -> InvertibleConv:
        """Create the released code's initial weights: the identity plus Gaussian noise."""
        size = channels // groups
        return cls(torch.eye(size) + noise * torch.randn(groups, size, size), whiten=whiten)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return mix_channels(x, self.weight), self._log_det(x)

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        log_det = -self._log_det(y)
        self._check_condition()
        inverse = torch.linalg.inv(self.weight.double()).to(self.weight.dtype)
        return mix_channels(y, inverse), log_det

    @torch.no_grad()
    def initialize(self, x: Tensor) -> None:
        """If `whiten`, set each matrix such that the covariance of its output for this batch is 1.

        W = C^(-1/2), the symmetric root, for the covariance C of a group's channels over batch
        and positions: of all whitening matrices it changes the channels least (ZCA). Eigenvalues
        of C count as at least 1e-3.

        Source: Bell and Sejnowski 1997.
        """
        self.check_input(x)
        if self.whiten:
            self.weight.copy_(whitening(x, len(self.weight)))

    @torch.no_grad()
    def condition_numbers(self) -> Tensor:
        """Compute the condition number of each group's matrix, `(G,)`, in float64.

        Rows and columns are first scaled to a largest entry of 1, so that a badly scaled but
        invertible matrix such as diag(1e-20, 1) has condition number 1.
        """
        matrices = self.weight.double()
        for axis in (2, 1):
            largest = matrices.abs().amax(axis, keepdim=True)
            matrices = matrices / largest.where(largest > 0, torch.ones_like(largest))
        return torch.linalg.cond(matrices)

    def check_fields(self, x: Tensor, owner: str) -> None:
        check_channels(x, self.weight.shape[0] * self.weight.shape[1], owner)

    def _check_condition(self) -> None:
        if not bool(torch.isfinite(self.weight).all()):
            raise ValueError(
                "InvertibleConv needs finite, non-singular matrices, got non-finite entries"
            )
        numbers = self.condition_numbers()
        limit = 1 / (self.weight.shape[1] * torch.finfo(torch.float64).eps)
        if not bool((numbers < limit).all()):
            raise ValueError(
                "InvertibleConv needs matrices that float64 can invert, got condition numbers "
                f"{[f'{n:.3g}' for n in numbers.tolist()]}"
            )

    def _log_det(self, x: Tensor) -> Tensor:
        log_abs = torch.linalg.slogdet(_never_single(self.weight.double())).logabsdet.sum()
        if may_read_values(self.weight, self) and not torch.isfinite(log_abs):
            raise ValueError(
                "InvertibleConv needs finite, non-singular matrices, got log|det W| = "
                f"{log_abs.item()}"
            )
        positions = x.shape[2] * x.shape[3]
        return (positions * log_abs).to(self.weight.dtype).expand(x.shape[0])


def _never_single(matrices: Tensor) -> Tensor:
    """Return the matrices `(G, c, c)`; on a CUDA device, a single one with the identity.

    Torch factors a batch by cuBLAS and a single matrix by cuSOLVER, which cannot be captured in a
    CUDA graph. The identity adds an exact 0 to the sum of log|det|.
    """
    if not matrices.is_cuda or len(matrices) > 1:
        return matrices
    identity = torch.eye(matrices.shape[1], dtype=matrices.dtype, device=matrices.device)
    return torch.cat([matrices, identity[None]])


def mix_channels(x: Tensor, weight: Tensor) -> Tensor:
    """Multiply each group of channels by its matrix, `(B, G*c, H, W)` by `(G, c, c)`.

    Numerics: at least float32, also where torch would use TF32 or autocast.
    """
    return pointwise(x, weight)


def whitening(x: Tensor, groups: int) -> Tensor:
    """Return the symmetric whitening matrices of groups of channels, `(G, c, c)`, in float64.

    Raises:
        ValueError: values that are not finite.
    """
    wrong = int((~x.isfinite()).sum())
    if wrong:
        raise ValueError(f"whitening needs finite inputs, got {wrong} that are not")
    columns = x.double().transpose(0, 1).reshape(groups, x.shape[1] // groups, -1)
    columns = columns - columns.mean(2, keepdim=True)
    variances, axes = torch.linalg.eigh(columns @ columns.mT / columns.shape[2])
    scales = torch.rsqrt(variances.clamp(min=EIGENVALUE_FLOOR))
    return axes * scales[:, None, :] @ axes.mT


def check_channels(x: Tensor, channels: int, owner: str) -> None:
    """Raise ValueError unless x has this number of channels."""
    if x.shape[1] != channels:
        raise ValueError(f"{owner} needs {channels} channels, got {x.shape[1]}")
