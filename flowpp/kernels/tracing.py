"""Whether torch.compile or torch.export traces the call."""

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
