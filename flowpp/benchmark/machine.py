"""What the machine can do: its own matrix products per second and bytes per second."""

from __future__ import annotations

import platform
from typing import Any

import torch

from flowpp.runtime.machine import processor_name

from .timing import fastest

MATRIX = 1024
BANDWIDTH_BYTES = 1 << 28
"""Far beyond any cache."""


def describe(repeats: int = 15) -> dict[str, Any]:
    """Names, threads and measured peaks, all with as many threads as torch is set to use."""
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
    """Of a float32 product of two 1024 x 1024 matrices: no direct convolution exceeds it."""
    a, b = torch.randn(2, MATRIX, MATRIX).unbind()
    out = torch.empty_like(a)
    return 2 * MATRIX**3 / fastest(lambda: torch.mm(a, b, out=out), repeats)


def bytes_per_second(repeats: int) -> float:
    """Read and written together, by copying an array that no cache holds."""
    source = torch.zeros(BANDWIDTH_BYTES // 4)
    target = torch.zeros_like(source)
    return 2 * BANDWIDTH_BYTES / fastest(lambda: target.copy_(source), repeats)
