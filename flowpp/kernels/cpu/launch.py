"""Calls of functions in the compiled CPU kernels."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor

from .build import library

OUT_OF_MEMORY = 1
"""Result of a kernel; see status.h."""


def call(source: str, function: str, *arguments: Any, threads: int | None = None) -> None:
    """Call a kernel, which writes its results into tensors among its arguments.

    Args:
        source: Name of the `.cpp` file with the function.
        function: Name of the function. Its last parameter is the number of threads.
        arguments: Dense CPU tensors, passed as pointers; ints, as long; floats, as float; and
            values of ctypes.
        threads: Number of threads; None for torch's.

    Raises:
        MemoryError: There is no memory for the kernel's intermediate results.
    """
    count = torch.get_num_threads() if threads is None else threads
    # A negative view has its sign in a flag and not in memory; the list keeps copies alive.
    resolved = [a.resolve_neg() if isinstance(a, Tensor) else a for a in arguments]
    converted = [_converted(argument) for argument in resolved]
    status = getattr(library(source), function)(*converted, ctypes.c_long(count))
    if status == OUT_OF_MEMORY:
        raise MemoryError(
            f"{function} needs more memory for its intermediate results than is free: use a "
            "smaller batch or smaller images"
        )


def _converted(value: Any) -> Any:
    if isinstance(value, Tensor):
        address = value.data_ptr()
        if address == 0 and value.numel():
            raise TypeError(
                f"a kernel's tensor must have memory, got none for shape {tuple(value.shape)}"
            )
        return ctypes.c_void_p(address)
    if isinstance(value, int):
        return ctypes.c_long(value)
    if isinstance(value, float):
        return ctypes.c_float(value)
    return value
