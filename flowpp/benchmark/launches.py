"""Kernel launches and host synchronizations of one call on a CUDA device."""

from __future__ import annotations

import collections
import linecache
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

TOP_KERNELS = 20
LONGEST_NAME = 90
MESSAGE = "called a synchronizing CUDA operation"
"""Text of the warnings that torch gives for a synchronization in its debug mode."""
LAUNCHES = ("cudaLaunch", "cuLaunch", "cudaGraphLaunch", "cudaMemcpy", "cudaMemset")
"""First letters of the driver's calls that start work on the device."""


def kernel_launches(function: Callable[[], object], device: torch.device) -> dict[str, Any]:
    """Count what one call runs on a CUDA device, by torch's profiler.

    Returns:
        Number of kernels (with copies and fills), milliseconds that the device computed, number
        of calls that launched work, by name, and the kernels that took longest, each with count
        and milliseconds.
    """
    torch.cuda.synchronize(device)
    # Some versions of torch warn about what is kept unless told to keep all.
    activities = [ProfilerActivity.CPU, ProfilerActivity.CUDA]
    with profile(activities=activities, acc_events=True) as profiler:
        function()
        torch.cuda.synchronize(device)
    return summarized(profiler.events())


def summarized(events: Iterable[Any]) -> dict[str, Any]:
    """Summarize the events of a profile; see `kernel_launches`."""
    kernels: dict[str, list[float]] = collections.defaultdict(lambda: [0, 0.0])
    calls: collections.Counter[str] = collections.Counter()
    for event in events:
        if event.device_type == torch.autograd.DeviceType.CUDA:
            if not event.is_user_annotation:  # such as the optimizer's step as a whole
                entry = kernels[event.name[:LONGEST_NAME]]
                entry[0] += 1
                entry[1] += event.time_range.elapsed_us() / 1e3
        elif event.name.startswith(LAUNCHES):
            calls[event.name] += 1
    longest = sorted(kernels.items(), key=lambda item: -item[1][1])
    return {
        "kernels": sum(int(count) for count, _ in kernels.values()),
        "device_busy_ms": sum(milliseconds for _, milliseconds in kernels.values()),
        "launch_calls": sum(calls.values()),
        "launch_calls_by_name": dict(calls.most_common()),
        "longest": [
            [name, int(count), round(ms, 4)] for name, (count, ms) in longest[:TOP_KERNELS]
        ],
    }


def host_synchronizations(function: Callable[[], object], device: torch.device) -> dict[str, Any]:
    """Count the operations of one call that wait for a CUDA device, by line of Python.

    torch's debug mode does not see `torch.cuda.synchronize`, events, and `torch.distributed`.

    Returns:
        Number of synchronizations, and the lines with their counts, the most frequent first.
    """
    former = torch.cuda.get_sync_debug_mode()
    torch.cuda.synchronize(device)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            function()
        finally:
            torch.cuda.set_sync_debug_mode(former)
    return by_line(caught)


def by_line(caught: Iterable[warnings.WarningMessage]) -> dict[str, Any]:
    """Count torch's warnings of synchronizations by the line that caused them."""
    lines = collections.Counter(
        _place(w.filename, w.lineno) for w in caught if MESSAGE in str(w.message)
    )
    return {"count": sum(lines.values()), "lines": dict(lines.most_common())}


def _place(file: str, line: int) -> str:
    """Return file, line and its text, as in "training/loop.py:210: loss.item()"."""
    place = "/".join(Path(file).parts[-2:])
    return f"{place}:{line}: {linecache.getline(file, line).strip()}"
