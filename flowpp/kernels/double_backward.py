"""Second derivatives of compiled operations, through plain formulas."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


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
