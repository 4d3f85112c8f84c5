"""Seconds of several functions that take turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping


def interleaved(
    functions: Mapping[str, Callable[[], object]], *, warm_up: int, repeats: int
) -> dict[str, list[float]]:
    """Seconds of each call: all functions once, then all of them again, and so on.

    Whatever slows the machine for a while then slows all of them alike.

    Args:
        functions: what to time, by name.
        warm_up: rounds whose seconds are thrown away.
        repeats: rounds that count.
    """
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for count in range(warm_up + repeats):
        for name, function in functions.items():
            began = time.perf_counter()
            function()
            elapsed = time.perf_counter() - began
            if count >= warm_up:
                seconds[name].append(elapsed)
    return seconds


def fastest(function: Callable[[], object], repeats: int) -> float:
    """Seconds of one function when least disturbed, after one call that does not count."""
    return min(interleaved({"it": function}, warm_up=1, repeats=repeats)["it"])
