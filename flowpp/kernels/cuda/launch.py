"""The logistic mixture by the CUDA kernels: compiled by CuPy (NVRTC) on first use.

Kernels are launched on torch's current stream. `mixture_logistic.cu` is also the source of the CPU
kernels, which include it.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

SOURCE = Path(__file__).parent / "mixture_logistic.cu"
NAMES = {torch.float32: "float32", torch.float64: "float64"}
THREADS = 128
"""Threads of a block. Each computes one element and loops over its components.

An element's number and its offset into the parameters may exceed 32 bits: `Index` in the source.
"""


@functools.cache
def is_available() -> bool:
    """Return whether torch finds a CUDA device and CuPy is installed."""
    return torch.cuda.is_available() and _cupy() is not None


def require(x: Tensor) -> None:
    """Validate that the kernels can compute on this tensor.

    Raises:
        RuntimeError: No CUDA device, no CuPy, or a tensor of another device or dtype.
    """
    if not torch.cuda.is_available():
        raise RuntimeError("backend 'cuda' needs a CUDA device, and torch finds none")
    if _cupy() is None:
        raise RuntimeError("backend 'cuda' needs CuPy: pip install 'flowpp[gpu]'")
    if x.device.type != "cuda" or x.dtype not in NAMES:
        raise RuntimeError(
            "backend 'cuda' needs float32 or float64 on a CUDA device, "
            f"got {x.dtype} on {x.device}"
        )


def forward(x: Tensor, logits: Tensor, means: Tensor, log_scales: Tensor) -> tuple[Tensor, Tensor]:
    """Compute y = logit F(x) and log dy/dx, as `cpu.mixture_logistic.forward`."""
    x, parameters = x.contiguous(), _contiguous(logits, means, log_scales)
    y, log_derivative = torch.empty_like(x), torch.empty_like(x)
    count = _int(logits.shape[-1])
    _launch("forward", x, *parameters, _long(x.numel()), count, y, log_derivative)
    return y, log_derivative


def backward(
    x: Tensor, logits: Tensor, means: Tensor, log_scales: Tensor, grad_y: Tensor, grad_l: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Compute the gradients of all arguments, as `cpu.mixture_logistic.backward`."""
    x, grad_y, grad_l = x.contiguous(), grad_y.contiguous(), grad_l.contiguous()
    parameters = _contiguous(logits, means, log_scales)
    gradients = [torch.empty_like(t) for t in (x, *parameters)]
    _launch(
        "backward", x, *parameters, _long(x.numel()), _int(logits.shape[-1]), grad_y, grad_l,
        *gradients,
    )  # fmt: skip
    return gradients[0], gradients[1], gradients[2], gradients[3]


def inverse(
    y: Tensor,
    logits: Tensor,
    means: Tensor,
    log_scales: Tensor,
    ulps: float,
    max_evaluations: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Solve logit F(x) = y, as `cpu.mixture_logistic.inverse`.

    Each thread iterates until its own element is finished; there is no synchronization.
    """
    y, parameters = y.contiguous(), _contiguous(logits, means, log_scales)
    root, residual, width = (torch.empty_like(y) for _ in range(3))
    evaluations = torch.empty_like(y, dtype=torch.int64)
    scalar = getattr(_cupy(), NAMES[y.dtype])
    _launch(
        "inverse", y, *parameters, _long(y.numel()), _int(logits.shape[-1]), scalar(ulps),
        _int(max_evaluations), root, residual, width, evaluations,
    )  # fmt: skip
    return root, residual, width, evaluations


@functools.cache
def _cupy() -> Any:
    try:
        import cupy
    except ImportError:
        return None
    return cupy


@functools.cache
def _module(device: int) -> Any:
    """Compile the source for a device; NVRTC chooses the architecture."""
    with _cupy().cuda.Device(device):
        return _cupy().RawModule(code=SOURCE.read_text(), options=("--std=c++17",))


def _launch(name: str, x: Tensor, *arguments: Any) -> None:
    cupy = _cupy()
    elements = x.numel()
    if not elements:
        return
    kernel = _module(x.device.index).get_function(f"mixture_{name}_{NAMES[x.dtype]}")
    stream = torch.cuda.current_stream(x.device).cuda_stream
    with cupy.cuda.Device(x.device.index), cupy.cuda.ExternalStream(stream):
        converted = tuple(
            cupy.from_dlpack(a.detach()) if isinstance(a, Tensor) else a for a in (x, *arguments)
        )
        kernel(((elements + THREADS - 1) // THREADS,), (THREADS,), converted)


def _contiguous(*tensors: Tensor) -> list[Tensor]:
    return [t.contiguous() for t in tensors]


def _long(value: int) -> Any:
    return _cupy().int64(value)


def _int(value: int) -> Any:
    return _cupy().int32(value)
