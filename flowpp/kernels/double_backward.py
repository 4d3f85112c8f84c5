"""Derivatives of compiled operations that the kernels cannot compute, through plain formulas."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .visibility import is_observed, is_plain


def needs_formula(grad: Tensor) -> bool:
    """Return whether torch must see the operations of a backward pass.

    It must for a second derivative, and for gradients that a kernel cannot read, such as batched
    ones.
    """
    return torch.is_grad_enabled() or not is_plain(grad) or is_observed()


def formula_gradients(
    formula: Callable[..., Tensor], inputs: tuple[Tensor, ...], grad: Tensor
) -> tuple[Tensor | None, ...]:
    """Return gradients that can be differentiated again.

    Args:
        formula: The operation in terms of torch's own.
        inputs: Its arguments.
        grad: Gradient of its result.

    Returns:
        A gradient for each input; None for those that do not require one.
    """
    differentiated = [t for t in inputs if t.requires_grad]
    if not differentiated:
        return (None,) * len(inputs)
    with torch.enable_grad():
        gradients = iter(
            torch.autograd.grad(formula(*inputs), differentiated, grad, create_graph=True)
        )
    return tuple(next(gradients) if t.requires_grad else None for t in inputs)
