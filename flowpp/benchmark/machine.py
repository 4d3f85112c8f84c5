"""Measured peak rates of this machine: arithmetic in matrix products, and memory bandwidth."""

from __future__ import annotations

import platform
from typing import Any

import torch

from flowpp.runtime.machine import processor_name

from .timing import fastest

MATRIX = 1024
BANDWIDTH_BYTES = 1 << 28
"""Far larger than any cache."""


def describe(repeats: int = 15) -> dict[str, Any]:
    """Return versions, processor and measured peaks, with torch's current number of threads."""
    return {
        "processor": processor_name(),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "matmul_flops_per_second": matmul_flops_per_second(repeats),
        "bytes_per_second": bytes_per_second(repeats),
    }


def matmul_flops_per_second(repeats: int) -> float:
    """Measure a float32 product of two 1024 x 1024 matrices, a bound for direct convolutions."""
    a, b = torch.randn(2, MATRIX, MATRIX).unbind()
    out = torch.empty_like(a)
    return 2 * MATRIX**3 / fastest(lambda: torch.mm(a, b, out=out), repeats)


def bytes_per_second(repeats: int) -> float:
    """Measure bytes read plus bytes written in a copy of an array larger than any cache."""
    source = torch.zeros(BANDWIDTH_BYTES // 4)
    target = torch.zeros_like(source)
    return 2 * BANDWIDTH_BYTES / fastest(lambda: target.copy_(source), repeats)
