"""Timing of functions that are called alternately."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping


def interleaved(
    functions: Mapping[str, Callable[[], object]], *, warm_up: int, repeats: int
) -> dict[str, list[float]]:
    """Call all functions in turn, round by round, and return the seconds of each call.

    So a temporary load of the machine slows all of them alike.

    Args:
        functions: Functions to time, by name.
        warm_up: Number of untimed rounds.
        repeats: Number of timed rounds.
    """
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for count in range(warm_up + repeats):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            elapsed = time.perf_counter() - start
            if count >= warm_up:
                seconds[name].append(elapsed)
    return seconds


def fastest(function: Callable[[], object], repeats: int) -> float:
    """Return the smallest time of a function in seconds, after one untimed call."""
    return min(interleaved({"": function}, warm_up=1, repeats=repeats)[""])
