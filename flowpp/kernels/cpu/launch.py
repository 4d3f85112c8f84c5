"""Calls of functions in the compiled CPU kernels."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor

from ..tracing import batched_gradients_refused
from .build import library


def call(source: str, function: str, *arguments: Any, threads: int | None = None) -> None:
    """Call a kernel, which writes its results into tensors among its arguments.

    Args:
        source: Name of the `.cpp` file with the function.
        function: Name of the function. Its last parameter is the number of threads.
        arguments: Dense CPU tensors, passed as pointers; ints, as long; floats, as float; and
            values of ctypes.
        threads: Number of threads; None for torch's.
    """
    count = torch.get_num_threads() if threads is None else threads
    # A negative view has its sign in a flag and not in memory; the list keeps copies alive.
    resolved = [a.resolve_neg() if isinstance(a, Tensor) else a for a in arguments]
    with batched_gradients_refused():
        converted = [_converted(argument) for argument in resolved]
    getattr(library(source), function)(*converted, ctypes.c_long(count))


def _converted(value: Any) -> Any:
    if isinstance(value, Tensor):
        return ctypes.c_void_p(value.data_ptr())
    if isinstance(value, int):
        return ctypes.c_long(value)
    if isinstance(value, float):
        return ctypes.c_float(value)
    return value
