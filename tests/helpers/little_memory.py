"""Calls every CPU kernel that needs working memory while no more memory can be had.

Prints a line for each: its name and what happened. To be run as a program, on Linux.
"""

from __future__ import annotations

import ctypes
import re
import resource
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import torch

from flowpp.kernels.cpu import mixture_logistic as mixture
from flowpp.kernels.cpu.launch import call

THREADS = 3


def winograd(channels: int, size: int) -> Callable[[], None]:
    x, y = torch.zeros(2, 1, channels, size, size).unbind()
    weight, bias = torch.zeros(channels, channels, 3, 3), torch.zeros(channels)
    sizes = (1, channels, channels, size, size, 9 * channels, 9, 0)
    return lambda: call("convolution.cpp", "winograd_forward", x, weight, bias, *sizes, y)


def winograd_gradient(channels: int, size: int) -> Callable[[], None]:
    x, y = torch.zeros(2, 1, channels, size, size).unbind()
    weight, bias = torch.zeros(channels, channels, 3, 3), torch.zeros(channels)
    sizes = (1, channels, channels, size, size)
    return lambda: call("convolution.cpp", "winograd_weight_gradient", x, y, *sizes, weight, bias)


def attention(direction: str, depth: int, length: int) -> Callable[[], None]:
    batch = 4
    projected, gradient = torch.zeros(2, batch, 3 * depth * length).unbind()
    merged = torch.zeros(batch, depth * length)
    maxima, totals = torch.ones(2, batch, length).unbind()
    sizes = (batch, 1, depth, length, 0.1)
    arguments = {
        "forward": (projected, *sizes, maxima, totals, merged),
        "backward": (projected, maxima, totals, merged, *sizes, gradient),
    }[direction]
    return lambda: call("attention.cpp", f"attention_{direction}", *arguments)


def logistic(direction: str, components: int) -> Callable[[], None]:
    x, y, slope = torch.zeros(3, 64).unbind()
    counts = torch.zeros(64, dtype=torch.int64)
    given, layouts = mixture._parameters(*torch.zeros(3, 64, components).unbind())
    written, targets = mixture._parameters(*torch.zeros(3, 64, components).unbind())
    arguments = {
        "forward": (y, slope),
        "backward": (x, x, y, *written, targets),
        "inverse": (ctypes.c_float(1), 50, y, slope, torch.zeros(64), counts),
    }[direction]
    return lambda: mixture._call(direction, x, given, layouts, -1.0, *arguments)


@contextmanager
def no_more_than(megabytes: int):
    """Allow the process that many megabytes more than it has."""
    status = Path("/proc/self/status").read_text()
    used = int(re.search(r"VmSize:\s+(\d+)", status)[1]) << 10
    resource.setrlimit(resource.RLIMIT_AS, (used + (megabytes << 20), resource.RLIM_INFINITY))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


CALLS = {
    "winograd_forward": (winograd, (32, 16), (256, 64)),
    "winograd_weight_gradient": (winograd_gradient, (32, 16), (256, 64)),
    "attention_forward": (attention, ("forward", 8, 64), ("forward", 64, 4096)),
    "attention_backward": (attention, ("backward", 8, 64), ("backward", 64, 4096)),
    "mixture_forward": (logistic, ("forward", 512), ("forward", 1 << 15)),
    "mixture_backward": (logistic, ("backward", 512), ("backward", 1 << 15)),
    "mixture_inverse": (logistic, ("inverse", 512), ("inverse", 1 << 17)),
}


def main() -> None:
    torch.set_num_threads(THREADS)
    torch.zeros(1 << 20).exp_()  # starts the threads
    kernels = {name: make(*large) for name, (make, _, large) in CALLS.items()}
    for name, (make, small, _) in CALLS.items():
        make(*small)()
        outcome = "returned"
        with no_more_than(0):
            try:
                kernels[name]()
            except MemoryError as error:
                outcome = f"MemoryError: {error}"
        print(name, outcome)
    for kernel in kernels.values():  # with enough memory again
        kernel()
    for make in (winograd, winograd_gradient):
        kernel = make(32, 512)
        with no_more_than(megabytes=32):
            kernel()
        print(make.__name__, "of a large image returned")


if __name__ == "__main__":
    main()
