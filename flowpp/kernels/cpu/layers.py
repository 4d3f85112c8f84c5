"""The compiled parts of conditioners, called with dense float32 tensors on the CPU."""

from __future__ import annotations

import ctypes
import functools
from typing import Any

import torch
from torch import Tensor

from flowpp.kernels.cpu import mixture_logistic as host

SOURCES = (
    ("layers.cpp", "exponential.h", "parallel.h"),
    (
        "convolution.cpp",
        "winograd.h",
        "lanes.h",
        "parallel.h",
        "scratch.h",
        "transpose.h",
    ),
    (
        "attention.cpp",
        "exponential.h",
        "lanes.h",
        "parallel.h",
        "scratch.h",
        "transpose.h",
    ),
)
"""What is compiled, each with what it includes."""


@functools.cache
def is_available() -> bool:
    """Whether the compiled kernels can be used here; builds them if need be."""
    try:
        _libraries()
    except host.HostBuildError:
        return False
    return True


def call(name: str, *arguments: Tensor | int | float) -> None:
    """Call a kernel, which writes into tensors that it is given; threads are torch's."""
    converted: list[ctypes.c_void_p | ctypes.c_long | ctypes.c_float] = []
    for argument in arguments:
        if isinstance(argument, Tensor):
            converted.append(ctypes.c_void_p(argument.data_ptr()))
        elif isinstance(argument, int):
            converted.append(ctypes.c_long(argument))
        else:
            converted.append(ctypes.c_float(argument))
    _function(name)(*converted, ctypes.c_long(torch.get_num_threads()))


@functools.cache
def _function(name: str) -> Any:
    """Of the library that has it."""
    return next(getattr(library, name) for library in _libraries() if hasattr(library, name))


@functools.cache
def _libraries() -> tuple[ctypes.CDLL, ...]:
    return tuple(host.compiled(sources) for sources in SOURCES)
