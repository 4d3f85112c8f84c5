"""Muon: momentum with orthogonalized updates for kernels, Adam for the rest."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from flowpp.conditioner import Block, Conditioner, kernel_matrices
from flowpp.runtime.precision import float32_precision
from flowpp.training.adam import Adam, permanent, with_strides_of
from flowpp.training.averages import descend, move_towards

MOMENTUM = 0.95
RATE_FACTOR = 3.0
"""Muon's step size over Adam's."""

UPDATE_RMS = 0.2
"""Root mean square of an update's entries at a step size of 1, about that of Adam's."""

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients a, b, c of X <- a X + (b A + c A^2) X with A = X X^T, which bring singular values
near 1 in five steps."""

NEWTON_SCHULZ_STEPS = 5
NEARLY_SQUARE = 1.5
"""Up to this ratio of the sides, multiplying X in each step takes fewer operations."""

NORM_OFFSET = 1e-7


class Muon(Adam):
    """W <- W - 3 lr * 0.2 sqrt(max(rows, columns)) * orthogonal(g + 0.95 (m - g)) for matrices.

    `m` is the moving average m <- 0.95 m + 0.05 g of the gradient, and `orthogonal` the nearest
    matrix with orthonormal rows or columns, nearly. A kernel (out, in, k, k) is a matrix of out
    rows and in * k * k columns, or several of them, with parts of the rows each. All other
    parameters are updated as by `Adam`.

    Args:
        params: named parameters.
        lr: Adam's step size.
        kernels: number of matrices that the output channels of a kernel are divided into, by name.
        betas, epsilon: as for Adam.

    Raises:
        ValueError: a setting out of range, a kernel that is no parameter, or rows that cannot be
            divided so.

    Numerics: the weights' dtype, in IEEE arithmetic.

    Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"; scale of
    the update: Liu et al. 2025, "Muon is scalable for LLM training", section 2.2.
    """

    _plain_rates: Sequence[float | Tensor] = ()

    def __init__(
        self,
        params: Iterable[tuple[str, Tensor]],
        lr: float,
        kernels: Mapping[str, int],
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
    ) -> None:
        super().__init__(params, lr, betas, epsilon)
        named = {
            name: p
            for group in self.param_groups
            for name, p in zip(group["param_names"], group["params"], strict=True)
        }
        unknown = sorted(set(kernels) - set(named))
        if unknown:
            raise ValueError(f"Muon kernels must be parameters, got {', '.join(unknown)}")
        for name, parts in kernels.items():
            if parts < 1:
                raise ValueError(f"Muon must divide kernels into at least 1 part, got {parts}")
            if named[name].ndim < 2 or len(named[name]) % parts:
                raise ValueError(
                    f"Muon kernels must be matrices of a multiple of {parts} rows, got {name} of "
                    f"shape {tuple(named[name].shape)}"
                )
        self._parts = {named[name]: parts for name, parts in kernels.items()}

    def state_keys(self, parameter: Tensor) -> frozenset[str]:
        """Return the names of the averages that a parameter has."""
        return frozenset({"m"} if parameter in self._parts else {"m", "v"})

    def advance(self) -> None:
        """Do the host's part of a step, as for `Adam`."""
        super().advance()
        self._plain_rates = [
            permanent(
                RATE_FACTOR * group["lr"],
                self._plain_rates[index] if index < len(self._plain_rates) else None,
                group["params"][0].device,
            )
            for index, group in enumerate(self.param_groups)
        ]

    @torch.no_grad()
    def update(self) -> None:
        """Do the device's part of a step, with the step sizes of the last `advance`."""
        super().update()
        for group, rate in zip(self.param_groups, self._plain_rates, strict=True):
            alike: dict[tuple[int, tuple[int, ...]], list[Tensor]] = defaultdict(list)
            for p in group["params"]:
                if p.grad is not None and p in self._parts:
                    alike[self._parts[p], tuple(p.shape)].append(p)
            for (parts, _), kernels in alike.items():
                self._update_kernels(kernels, parts, rate)

    def _adam_parameters(self, group: Mapping[str, Any]) -> list[Tensor]:
        return [p for p in super()._adam_parameters(group) if p not in self._parts]

    def _update_kernels(self, kernels: list[Tensor], parts: int, rate: float | Tensor) -> None:
        """Update kernels of one shape, whose matrices are orthogonalized together."""
        weights = [_in_memory_order(p, p) for p in kernels]
        averages = [_in_memory_order(self._average(p), p) for p in kernels]
        grads = [
            _in_memory_order(with_strides_of(p, p.grad), p) for p in kernels if p.grad is not None
        ]
        move_towards(averages, grads, 1 - MOMENTUM, self.skip_if)
        ahead = torch.stack(grads)  # the average as after one more such gradient
        torch._foreach_lerp_(list(ahead.unbind()), averages, MOMENTUM)
        matrices = ahead.view(len(kernels) * parts, len(kernels[0]) // parts, -1)
        steps = orthogonalized(matrices).view(ahead.shape).unbind()
        scale = UPDATE_RMS * math.sqrt(max(matrices.shape[1:]))
        alike = [with_strides_of(*pair) for pair in zip(weights, steps, strict=True)]
        descend(weights, alike, rate * scale, self.skip_if)

    def _average(self, p: Tensor) -> Tensor:
        """Return the average of a kernel's gradient, made at its first step."""
        if "m" not in self.state[p]:
            self.state[p]["m"] = torch.zeros_like(p)
        return self.state[p]["m"]


def orthogonalized(matrices: Tensor) -> Tensor:
    """Bring the singular values of matrices `(N, rows, columns)` near 1.

    Those above 0.0015 of a matrix's Frobenius norm come into 0.68 ... 1.21, smaller ones remain
    smaller, and zeros remain zeros.

    In matrices much longer than wide, the iteration is applied to X X^T on the shorter side, since
    its factors commute: X is multiplied once, by their product.

    Numerics: IEEE arithmetic, even where float32 may mean TF32. Rounding can make small
    eigenvalues of X X^T negative, and the iteration magnifies them 12 times in each step.
    """
    rows, columns = matrices.shape[1:]
    tall = rows > columns

    def squared(x: Tensor) -> Tensor:
        return torch.bmm(x.mT, x) if tall else torch.bmm(x, x.mT)

    def times(factor: Tensor, x: Tensor) -> Tensor:
        return torch.bmm(x, factor) if tall else torch.bmm(factor, x)

    x = matrices / (torch.linalg.vector_norm(matrices, dim=(1, 2), keepdim=True) + NORM_OFFSET)
    with float32_precision("ieee"):
        if max(rows, columns) <= NEARLY_SQUARE * min(rows, columns):
            for _ in range(NEWTON_SCHULZ_STEPS):
                x = times(_factor(squared(x)), x)
            return x
        square = squared(x)
        product = factor = _factor(square)
        for _ in range(NEWTON_SCHULZ_STEPS - 1):
            square = torch.bmm(torch.bmm(factor, square), factor)
            factor = _factor(square)
            product = torch.bmm(factor, product)
        return times(product, x)


def _factor(square: Tensor) -> Tensor:
    """Return a + b A + c A^2."""
    a, b, c = NEWTON_SCHULZ
    factor = torch.baddbmm(square, square, square, beta=b, alpha=c)
    factor.diagonal(dim1=1, dim2=2).add_(a)
    return factor


def _in_memory_order(tensor: Tensor, kernel: Tensor) -> Tensor:
    """Return a tensor with a kernel's strides with its axes, but for the first, in memory order.

    So all of a kernel's rows are contiguous; the order of their numbers does not matter.
    """
    if kernel.is_contiguous():
        return tensor
    axes = sorted(range(1, kernel.ndim), key=kernel.stride, reverse=True)
    return tensor.detach().permute(0, *axes)


def block_kernels(model: nn.Module) -> dict[str, int]:
    """Return the kernels of convolutions inside blocks, by name of the parameter.

    The number is that of matrices in it: 3 for the projection to queries, keys and values.
    """
    return {
        f"{block_name}.{name}.weight": count
        for block_name, block in model.named_modules()
        if isinstance(block, Block)
        for name, count in kernel_matrices(block).items()
    }


def input_kernels(model: nn.Module) -> dict[str, int]:
    """Return the kernels of the first convolutions of networks, as `block_kernels` does."""
    return {
        f"{name}.proj_in.weight": 1
        for name, network in model.named_modules()
        if isinstance(network, Conditioner)
    }
