"""Tensors that a compiled kernel can read, and calls of which torch must see each operation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .tracing import hides_memory


def is_plain(x: Tensor) -> bool:
    """Return whether the tensor's numbers are in memory as its dtype, shape and strides say.

    They are not in subclasses and in sparse, nested, batched and efficient zero tensors. Neither
    is the sign of a negative view, but `resolve_neg` puts it there.
    """
    return (
        type(x) in (Tensor, nn.Parameter)
        and x.layout is torch.strided
        and torch._C._has_storage(x)
        and not x.is_nested
        and not x._is_zerotensor()
    )


def are_batched(*gradients: Tensor) -> bool:
    """Return whether one of them stands for several, as `is_grads_batched` gives."""
    return not torch.compiler.is_compiling() and any(
        type(g) is Tensor and not torch._C._has_storage(g) for g in gradients
    )


def is_observed() -> bool:
    """Return whether something must see each of torch's operations in this call.

    A compiler, a tracer, a transform or a dispatch mode, such as that of fake tensors, cannot see
    what a kernel writes into a tensor's memory, and would silently leave it out.
    """
    return (
        torch.compiler.is_compiling() or hides_memory() or torch._C._len_torch_dispatch_stack() > 0
    )
