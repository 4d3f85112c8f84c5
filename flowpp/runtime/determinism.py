"""Algorithms that give the same bits every time, on the same machine with the same software."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


@contextmanager
def deterministic_algorithms(*, enabled: bool) -> Iterator[None]:
    """Inside the block torch uses deterministic algorithms alone; without `enabled`, no change.

    An operation that has none raises an error. On the CPU this library is deterministic anyway;
    on a GPU it costs time. cuBLAS reads its workspace's size when it is first used: where the
    process has multiplied matrices on a GPU before, set $CUBLAS_WORKSPACE_CONFIG=:4096:8 yourself.
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
