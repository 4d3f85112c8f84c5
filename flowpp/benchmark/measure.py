"""One task measured: seconds of both versions, and what they mean on this machine."""

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
    """Plain values for the report: one entry for each version, and their ratio.

    Args:
        task: one of `tasks.MODEL_TASKS` and `tasks.MIXTURE_TASKS`.
        sizes: how large.
        machine: what `machine.describe` measured.
        warm_up: rounds that do not count.
        repeats: rounds that do.
        with_memory: measure peak resident memory too, in a fresh process for each version.
    """
    seconds = interleaved(functions(task, sizes), warm_up=warm_up, repeats=repeats)
    record: dict[str, Any] = {"task": task}
    if task in MODEL_TASKS:
        record["flops"] = flops(task, sizes)
    else:
        record["bytes"] = bytes_moved(task, sizes)
    for version, found in seconds.items():
        record[version] = _rates(record, statistics.median(found), sizes, machine)
        record[version]["all_seconds"] = found
        if with_memory:
            peak = memory.peak_in_fresh_process(task, version, sizes)
            record[version]["peak_resident_bytes"] = peak
    record["ratio"] = record["library"]["seconds"] / record["textbook"]["seconds"]
    return record


def tasks_named(what: str) -> list[str]:
    """Tasks of a comma-separated list; "mixture" stands for its three.

    Raises:
        ValueError: an unknown name.
    """
    found: list[str] = []
    for word in what.split(","):
        if word == "mixture":
            found += MIXTURE_TASKS
        elif word in MODEL_TASKS or word in MIXTURE_TASKS:
            found.append(word)
        else:
            known = ", ".join((*MODEL_TASKS, "mixture"))
            raise ValueError(f"what must list some of {known}, got {word!r}")
    return found


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
