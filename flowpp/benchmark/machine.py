"""Measured peak rates of a device: arithmetic in matrix products, and memory bandwidth."""

from __future__ import annotations

import platform
from typing import Any

import torch

from flowpp.config.build import float32_meaning
from flowpp.config.settings import Precision
from flowpp.runtime.machine import processor_name
from flowpp.runtime.precision import float32_precision

from .timing import CPU, fastest

MATRIX = 1024
BANDWIDTH_BYTES = 1 << 28
"""Far larger than any cache."""
CUDA_MATRIX = 8192
CUDA_BANDWIDTH_BYTES = 1 << 31
PRECISIONS: tuple[Precision, ...] = ("float32", "tf32", "bfloat16")


def describe(repeats: int = 15, device: torch.device = CPU) -> dict[str, Any]:
    """Return versions, processor and measured peaks, with torch's current number of threads."""
    cuda = device.type == "cuda"
    flops = {
        precision: matmul_flops_per_second(repeats, device, precision)
        for precision in (PRECISIONS if cuda else PRECISIONS[:1])
    }
    return {
        "device": str(device),
        "processor": processor_name(),
        **(cuda_device(device) if cuda else {}),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "matmul_flops_per_second": flops["float32"],
        **({"matmul": flops} if cuda else {}),
        "bytes_per_second": bytes_per_second(repeats, device),
    }


def cuda_device(device: torch.device) -> dict[str, Any]:
    """Return name, compute capability, multiprocessors and memory of a GPU."""
    properties = torch.cuda.get_device_properties(device)
    return {
        "card": properties.name,
        "compute_capability": f"{properties.major}.{properties.minor}",
        "multiprocessors": properties.multi_processor_count,
        "memory_bytes": properties.total_memory,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }


def name(machine: dict[str, Any]) -> str:
    """Return the name of what computes: the card's or the processor's."""
    return str(machine.get("card") or machine.get("processor") or "unknown")


def matmul_peak(machine: dict[str, Any], precision: Precision) -> float:
    """Return the measured rate of matrix products in a precision, in operations per second."""
    # The CPU computes tf32 as float32, and its shares refer to float32 as a whole.
    return float(machine.get("matmul", {}).get(precision, machine["matmul_flops_per_second"]))


def matmul_flops_per_second(
    repeats: int, device: torch.device = CPU, precision: Precision = "float32"
) -> float:
    """Measure a product of two square matrices, a bound for direct convolutions.

    Their sides are 1024 on the CPU, where the type is float32, and 8192 on CUDA devices.
    """
    side = CUDA_MATRIX if device.type == "cuda" else MATRIX
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    a, b = torch.randn(2, side, side, device=device, dtype=dtype).unbind()
    out = torch.empty_like(a)
    with float32_precision(float32_meaning(precision)):
        return 2 * side**3 / fastest(lambda: torch.mm(a, b, out=out), repeats, device)


def bytes_per_second(repeats: int, device: torch.device = CPU) -> float:
    """Measure bytes read plus bytes written in a copy of an array larger than any cache."""
    size = CUDA_BANDWIDTH_BYTES if device.type == "cuda" else BANDWIDTH_BYTES
    source = torch.zeros(size // 4, device=device)
    target = torch.zeros_like(source)
    return 2 * size / fastest(lambda: target.copy_(source), repeats, device)
