"""Timing of functions that are called alternately, with synchronization on CUDA devices."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch

CPU = torch.device("cpu")


class Duration(NamedTuple):
    """Times of one call, in seconds.

    Args:
        seconds: Until everything that the call has launched is finished.
        host: Until the call returned.
        device: Between the start and the end of its work on the device's current stream, idle
            gaps included; None on the CPU.
    """

    seconds: float
    host: float
    device: float | None = None


def interleaved(
    functions: Mapping[str, Callable[[], object]],
    *,
    warm_up: int,
    repeats: int,
    device: torch.device = CPU,
) -> dict[str, list[Duration]]:
    """Call all functions in turn, round by round, and return the times of each call.

    So a temporary load of the machine slows all of them alike.

    Args:
        functions: Functions to time, by name.
        warm_up: Number of untimed rounds.
        repeats: Number of timed rounds.
        device: Device on which they compute.
    """
    times: dict[str, list[Duration]] = {name: [] for name in functions}
    for count in range(warm_up + repeats):
        for name, function in functions.items():
            duration = timed(function, device)
            if count >= warm_up:
                times[name].append(duration)
    return times


def timed(function: Callable[[], object], device: torch.device = CPU) -> Duration:
    """Return the times of one call."""
    if device.type != "cuda":
        start = time.perf_counter()
        function()
        elapsed = time.perf_counter() - start
        return Duration(elapsed, elapsed)
    with torch.cuda.device(device):
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        start = time.perf_counter()
        first.record()
        function()
        last.record()
        host = time.perf_counter() - start
        torch.cuda.synchronize()
        elapsed = time.perf_counter() - start
        return Duration(elapsed, host, first.elapsed_time(last) / 1e3)


def fastest(function: Callable[[], object], repeats: int, device: torch.device = CPU) -> float:
    """Return the smallest time of a function in seconds, after one untimed call.

    On a CUDA device it is the time on the device, without that of the launch.
    """
    times = interleaved({"": function}, warm_up=1, repeats=repeats, device=device)[""]
    return min(t.seconds if t.device is None else t.device for t in times)
