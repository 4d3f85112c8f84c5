"""Measurement of one task: seconds of both versions, rates, and shares of the machine's peak."""

from __future__ import annotations

import statistics
from typing import Any

from . import memory
from .tasks import MIXTURE_TASKS, MODEL_TASKS, Sizes, bytes_moved, flops, functions
from .timing import interleaved


def measure(
    task: str,
    sizes: Sizes,
    machine: dict[str, Any],
    *,
    warm_up: int,
    repeats: int,
    with_memory: bool,
) -> dict[str, Any]:
    """Measure a task and return an entry of the report, with both versions and their ratio.

    Args:
        task: One of `tasks.MODEL_TASKS` and `tasks.MIXTURE_TASKS`.
        sizes: Sizes of the timed problems.
        machine: Result of `machine.describe`.
        warm_up: Number of untimed rounds.
        repeats: Number of timed rounds.
        with_memory: Whether to measure peak resident memory, in a new process for each version.
    """
    seconds = interleaved(functions(task, sizes), warm_up=warm_up, repeats=repeats)
    record: dict[str, Any] = {"task": task}
    if task in MODEL_TASKS:
        record["flops"] = flops(task, sizes)
    else:
        record["bytes"] = bytes_moved(task, sizes)
    for version, times in seconds.items():
        record[version] = _rates(record, statistics.median(times), sizes, machine)
        record[version]["all_seconds"] = times
        if with_memory:
            peak = memory.peak_in_fresh_process(task, version, sizes)
            record[version]["peak_resident_bytes"] = peak
    record["ratio"] = record["library"]["seconds"] / record["textbook"]["seconds"]
    return record


def tasks_named(what: str) -> list[str]:
    """Return the tasks of a comma-separated list; "mixture" is short for its three.

    Raises:
        ValueError: An unknown name.
    """
    tasks: list[str] = []
    for word in what.split(","):
        if word == "mixture":
            tasks += MIXTURE_TASKS
        elif word in MODEL_TASKS or word in MIXTURE_TASKS:
            tasks.append(word)
        else:
            known = ", ".join((*MODEL_TASKS, "mixture"))
            raise ValueError(f"what must be a list of {known}, got {word!r}")
    return tasks


def _rates(
    record: dict[str, Any], seconds: float, sizes: Sizes, machine: dict[str, Any]
) -> dict[str, Any]:
    rates: dict[str, Any] = {"seconds": seconds}
    if "flops" in record:
        rates["images_per_second"] = sizes.batch_size / seconds
        rates["share_of_matmul_peak"] = (
            record["flops"] / seconds / machine["matmul_flops_per_second"]
        )
    else:
        rates["scalars_per_second"] = sizes.elements / seconds
        rates["share_of_bandwidth"] = record["bytes"] / seconds / machine["bytes_per_second"]
    return rates
