"""Choice of algorithms: the same bits every time on one machine, or the fastest."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


@contextmanager
def deterministic_algorithms(*, enabled: bool) -> Iterator[None]:
    """Restrict torch to deterministic algorithms inside the block.

    An operation without one raises an error. On the CPU this library is always deterministic; on a
    GPU determinism costs time. cuBLAS reads its workspace size on first use: if the process has
    already multiplied matrices on a GPU, set $CUBLAS_WORKSPACE_CONFIG=:4096:8 before starting it.

    Args:
        enabled: Whether to change anything.
    """
    if not enabled:
        yield
        return
    cudnn = torch.backends.cudnn
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        cudnn.deterministic,
        cudnn.benchmark,
    )
    os.environ.setdefault(WORKSPACE, ":4096:8")
    torch.use_deterministic_algorithms(True)  # noqa: FBT003
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        cudnn.deterministic, cudnn.benchmark = before[2:]


@contextmanager
def fastest_convolutions(*, enabled: bool) -> Iterator[None]:
    """Let cuDNN time its algorithms for each new shape of a convolution inside the block.

    The choice may differ between processes, and with it the rounding. Only for devices and
    settings without a promise of equal bits; `deterministic_algorithms` takes precedence.

    Args:
        enabled: Whether to change anything.
    """
    cudnn = torch.backends.cudnn
    before = cudnn.benchmark
    cudnn.benchmark = before or (enabled and not cudnn.deterministic)
    try:
        yield
    finally:
        cudnn.benchmark = before
