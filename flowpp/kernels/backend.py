"""Which code computes the mixture: torch's own operations, the C++ build, or the CUDA kernels."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

import torch

from flowpp.kernels.cpu import mixture_logistic as host
from flowpp.kernels.cuda import launch as cuda

Backend = Literal["auto", "torch", "cpp", "cuda"]
VARIABLE = "FLOWPP_BACKEND"

_chosen: list[str] = []


@contextmanager
def use_backend(backend: Backend) -> Iterator[None]:
    """Compute with this backend inside the block; `$FLOWPP_BACKEND` says what holds outside.

    "auto" takes the compiled kernels of the tensors' device where they can be had, and torch's own
    operations elsewhere. The others insist.

    Raises:
        ValueError: no such backend.
        RuntimeError: on use, a backend that cannot be had here; the message says what it needs.
    """
    _chosen.append(_checked(backend))
    try:
        yield
    finally:
        _chosen.pop()


def backend_for(x: torch.Tensor) -> Literal["torch", "cpp", "cuda"]:
    """What computes for a tensor of this device and dtype.

    Raises:
        ValueError: `$FLOWPP_BACKEND` names no backend.
        RuntimeError: the backend that was insisted on cannot be had.
    """
    wanted = _chosen[-1] if _chosen else _checked(os.environ.get(VARIABLE, "auto"))
    if wanted == "cuda":
        cuda.require(x)
        return "cuda"
    if wanted == "cpp":
        if x.device.type != "cpu":
            raise RuntimeError(f"backend 'cpp' needs tensors on the CPU, got {x.device}")
        host.library()
        return "cpp"
    if wanted == "auto" and x.dtype in host.NAMES:
        if x.device.type == "cpu" and host.is_available():
            return "cpp"
        if x.device.type == "cuda" and cuda.is_available():
            return "cuda"
    return "torch"


def _checked(backend: str) -> str:
    if backend not in get_args(Backend):
        raise ValueError(f"a backend is one of {', '.join(get_args(Backend))}, got {backend!r}")
    return backend
