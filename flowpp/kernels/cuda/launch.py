"""The CUDA kernels: compiled by CuPy (NVRTC) on first use, launched on torch's current stream."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

SOURCE = Path(__file__).parent / "mixture_logistic.cu"
NAMES = {torch.float32: "float32", torch.float64: "float64"}
THREADS = 128
"""A block; each thread holds one element and walks its components."""


@functools.cache
def is_available() -> bool:
    """Whether there is a CUDA device, and CuPy to reach it with."""
    return torch.cuda.is_available() and _cupy() is not None


def require(x: Tensor) -> None:
    """Refuse what the kernels cannot do, and say why.

    Raises:
        RuntimeError: no CUDA device, no CuPy, or a tensor that is elsewhere or of another dtype.
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
    """As `host.forward`."""
    x, parameters = x.contiguous(), _contiguous(logits, means, log_scales)
    y, slope = torch.empty_like(x), torch.empty_like(x)
    _launch("forward", x, *parameters, _long(x.numel()), _int(logits.shape[-1]), y, slope)
    return y, slope


def backward(
    x: Tensor, logits: Tensor, means: Tensor, log_scales: Tensor, grad_y: Tensor, grad_l: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """As `host.backward`."""
    x, grad_y, grad_l = x.contiguous(), grad_y.contiguous(), grad_l.contiguous()
    parameters = _contiguous(logits, means, log_scales)
    found = [torch.empty_like(t) for t in (x, *parameters)]
    _launch(
        "backward", x, *parameters, _long(x.numel()), _int(logits.shape[-1]), grad_y, grad_l,
        *found,
    )  # fmt: skip
    return found[0], found[1], found[2], found[3]


def inverse(
    y: Tensor,
    logits: Tensor,
    means: Tensor,
    log_scales: Tensor,
    ulps: float,
    max_evaluations: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """As `host.inverse`; every element iterates by itself, and the host is not waited for."""
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
    """Compiled once for each device; NVRTC picks its architecture."""
    with _cupy().cuda.Device(device):
        return _cupy().RawModule(code=SOURCE.read_text(), options=("--std=c++17",))


def _launch(name: str, first: Tensor, *arguments: Any) -> None:
    cupy = _cupy()
    elements = first.numel()
    if not elements:
        return
    kernel = _module(first.device.index).get_function(f"mixture_{name}_{NAMES[first.dtype]}")
    stream = torch.cuda.current_stream(first.device).cuda_stream
    with cupy.cuda.Device(first.device.index), cupy.cuda.ExternalStream(stream):
        converted = tuple(
            cupy.from_dlpack(a.detach()) if isinstance(a, Tensor) else a
            for a in (first, *arguments)
        )
        kernel(((elements + THREADS - 1) // THREADS,), (THREADS,), converted)


def _contiguous(*tensors: Tensor) -> list[Tensor]:
    return [t.contiguous() for t in tensors]


def _long(value: int) -> Any:
    return _cupy().int64(value)


def _int(value: int) -> Any:
    return _cupy().int32(value)
