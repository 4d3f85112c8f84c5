"""Detection of calls by torch.compile, torch.export, torch.jit and transforms of torch.func."""

from __future__ import annotations

import torch


def is_exporting() -> bool:
    """Return whether torch.export traces the call."""
    # `torch.compiler.is_exporting` returns this variable, but torch 2.11 takes that function for
    # true in torch.compile.
    return bool(torch.compiler._is_exporting_flag)


def is_traced() -> bool:
    """Return whether torch.compile traces the call, for itself rather than for torch.export."""
    return torch.compiler.is_compiling() and not is_exporting()


def is_transformed() -> bool:
    """Return whether a transform of torch.func, such as vmap or jvp, computes the call."""
    return not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active()


def hides_memory() -> bool:
    """Return whether tensors or their sizes may be stand-ins, which no compiled kernel can read.

    They are under a transform of torch.func, and sizes are under torch.jit.trace.
    """
    return is_transformed() or (
        not torch.compiler.is_compiling() and torch._C._get_tracing_state() is not None
    )


def refuse_transforms() -> None:
    """Refuse torch.func's transforms, which the mixture has no rules for.

    Raises:
        RuntimeError: a transform computes the call; the message says what to use.
    """
    if is_transformed():
        raise RuntimeError(
            "Flow++ must be computed without torch.func's transforms (vmap, grad, jvp, ...), got "
            "one: use torch.autograd.grad or torch.autograd.functional.jacobian, which also give "
            "second derivatives; for the gradient of each image, compute them one after another"
        )
