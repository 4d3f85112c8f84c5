"""Choice of the backend: torch's own operations, the CPU kernels (C++) or the CUDA kernels."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

import torch
from torch import Tensor

from flowpp.runtime.device import choose_device
from flowpp.runtime.notes import note_once

from .cpu import build
from .cuda import launch as cuda
from .tracing import hides_memory
from .visibility import is_observed, is_plain

Backend = Literal["auto", "torch", "cpu", "cuda"]
Kernel = Literal["mixture_logistic", "layers", "attention", "convolution"]
"""A source of kernels: a `.cpp` file of `cpu/`. `cuda/` has the mixture alone."""
BACKENDS: tuple[str, ...] = get_args(Backend)
DTYPES = (torch.float32, torch.float64)
VARIABLE = "FLOWPP_BACKEND"

_requested: list[str] = []


@contextmanager
def use_backend(backend: Backend) -> Iterator[None]:
    """Compute with this backend inside the block; outside, with that of `$FLOWPP_BACKEND`.

    "auto", the default, takes the compiled kernels for the tensors' device where they are
    available, and torch's own operations elsewhere. "cpu" and "cuda" require the kernels.

    Raises:
        ValueError: `backend` is not one of these.
        RuntimeError: On use, if the required kernels are not available.
    """
    _requested.append(_checked(backend))
    try:
        yield
    finally:
        _requested.pop()


def backend_for(
    *tensors: Tensor, kernel: Kernel = "mixture_logistic"
) -> Literal["torch", "cpu", "cuda"]:
    """Return the backend that computes an operation on these tensors.

    The mixture has kernels for float32 and float64 on both devices; the layers of conditioners
    have them for float32 on the CPU.

    Raises:
        ValueError: `$FLOWPP_BACKEND` is not the name of a backend.
        RuntimeError: The required kernels are not available.
    """
    if kernel != "mixture_logistic" and not _suit_layer_kernels(tensors):
        return "torch"
    x = tensors[0]
    if _requested:
        requested = _requested[-1]
    else:
        requested = _checked(os.environ.get(VARIABLE, "auto"), name=VARIABLE)
    if requested == "cuda":
        cuda.require(x)
        return "cuda"
    if requested == "cpu":
        if x.device.type != "cpu":
            raise RuntimeError(f"backend 'cpu' needs tensors on the CPU, got {x.device}")
        build.library(f"{kernel}.cpp")
        return "cpu"
    if requested == "auto" and x.dtype in DTYPES and not hides_memory():
        return _available(x.device.type, kernel, x.device.index)
    return "torch"


def _available(
    device: str, kernel: Kernel, index: int | None = None
) -> Literal["torch", "cpu", "cuda"]:
    """Return the device's own backend if its kernels are available, else "torch"."""
    if device == "cpu" and build.is_available(f"{kernel}.cpp"):
        return "cpu"
    if device == "cuda":
        if cuda.is_available(index):
            return "cuda"
        note_once(
            "no kernels on a GPU",
            "note: without CuPy torch's own operations compute the mixture on the GPU, with more "
            "time and memory: pip install 'flowpp[gpu]'",
        )
    return "torch"


# What `torch.compiler.assume_constant_result` sets, without importing the compiler here: it calls
# this function once, where it would otherwise trace the search for a C++ compiler.
_available._dynamo_marked_constant = True  # type: ignore[attr-defined]


def check_variable(device: str) -> None:
    """Check that the backend of `$FLOWPP_BACKEND` can compute on this device.

    Commands call this before a long computation; without the variable it does nothing.

    Args:
        device: A usable device, or `auto`.

    Raises:
        ValueError: Not the name of a backend, or one that is not available.
    """
    if VARIABLE not in os.environ:
        return
    try:
        backend_for(torch.empty(0, device=choose_device(device)))
    except RuntimeError as error:
        raise ValueError(f"{VARIABLE} must be available, got {error}") from error


def _suit_layer_kernels(tensors: tuple[Tensor, ...]) -> bool:
    return (
        not is_observed()
        and not torch.is_autocast_enabled("cpu")
        and all(
            x.dtype is torch.float32 and x.device.type == "cpu" and is_plain(x) for x in tensors
        )
    )


def _checked(backend: str, name: str = "backend") -> str:
    if backend not in BACKENDS:
        known = ", ".join(BACKENDS)
        former = ", which was the name of 'cpu' in version 0.1.0" if backend == "cpp" else ""
        raise ValueError(f"{name} must be one of {known}, got {backend!r}{former}")
    return backend
