"""Measurement of one task: seconds of both versions, rates, and shares of the machine's peak."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import torch

from . import memory, mixture
from .launches import host_synchronizations, kernel_launches
from .machine import matmul_peak
from .tasks import GROUPS, MIXTURE_TASKS, MODEL_TASKS, VERSIONS, Sizes, flops, functions
from .timing import Duration, interleaved


def measure(
    task: str,
    sizes: Sizes,
    machine: dict[str, Any],
    *,
    warm_up: int,
    repeats: int,
    with_memory: bool,
    versions: tuple[str, ...] = VERSIONS,
) -> dict[str, Any]:
    """Measure a task and return an entry of the report, with both versions and their ratio.

    Args:
        task: One of `tasks.MODEL_TASKS` and `tasks.MIXTURE_TASKS`.
        sizes: Sizes of the timed problems.
        machine: Result of `machine.describe`.
        warm_up: Number of untimed rounds.
        repeats: Number of timed rounds.
        with_memory: Whether to measure peak memory, in a new process for each version.
        versions: Versions to measure; the ratio needs both.
    """
    device = torch.device(sizes.device)
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats(device)
    made = functions(task, sizes, versions)
    times = interleaved(made, warm_up=warm_up, repeats=repeats, device=device)
    # torch counts what is allocated on a CUDA device: with one version no process is needed.
    peak = torch.cuda.max_memory_allocated(device) if cuda and len(versions) == 1 else None
    record: dict[str, Any] = {"task": task}
    if task in MODEL_TASKS:
        record["flops"] = flops(task, sizes)
    else:
        record["bytes"] = mixture.bytes_moved(task, sizes.mixture)
    if notes := getattr(made.get("library"), "notes", None):
        record["notes"] = notes
    for version, durations in times.items():
        seconds = statistics.median(t.seconds for t in durations)
        entry = _rates(record, seconds, sizes, machine)
        entry["all_seconds"] = [t.seconds for t in durations]
        if cuda:
            entry |= _on_device(record, made[version], durations, machine)
        if with_memory:
            entry[f"peak_{'device' if cuda else 'resident'}_bytes"] = (
                memory.peak_in_fresh_process(task, version, sizes) if peak is None else peak
            )
        record[version] = entry
    if len(times) == len(VERSIONS):
        record["ratio"] = record["library"]["seconds"] / record["textbook"]["seconds"]
    return record


def tasks_named(what: str) -> list[str]:
    """Return the tasks of a comma-separated list; "mixture" and "layouts" stand for several.

    Raises:
        ValueError: An unknown name.
    """
    tasks: list[str] = []
    for word in what.split(","):
        if word in GROUPS:
            tasks += GROUPS[word]
        elif word in MODEL_TASKS or word in MIXTURE_TASKS:
            tasks.append(word)
        else:
            known = ", ".join((*MODEL_TASKS, *GROUPS))
            raise ValueError(f"what must be a list of {known}, got {word!r}")
    return tasks


def _rates(
    record: dict[str, Any], seconds: float, sizes: Sizes, machine: dict[str, Any]
) -> dict[str, Any]:
    rates: dict[str, Any] = {"seconds": seconds}
    if "flops" in record:
        rates["images_per_second"] = sizes.batch_size / seconds
        rates["flops_per_second"] = record["flops"] / seconds
        rates["share_of_matmul_peak"] = rates["flops_per_second"] / matmul_peak(
            machine, sizes.precision
        )
    else:
        rates["scalars_per_second"] = mixture.elements(record["task"], sizes.mixture) / seconds
        rates["share_of_bandwidth"] = record["bytes"] / seconds / machine["bytes_per_second"]
    return rates


def _on_device(
    record: dict[str, Any],
    function: Callable[[], object],
    durations: list[Duration],
    machine: dict[str, Any],
) -> dict[str, Any]:
    """Return what is measured on CUDA devices only: times apart, launches, synchronizations."""
    device = torch.device(machine["device"])
    launches = kernel_launches(function, device)
    entry = {
        "device_seconds": statistics.median(t.device or t.seconds for t in durations),
        "host_seconds": statistics.median(t.host for t in durations),
        "launches": launches,
        "host_synchronizations": host_synchronizations(function, device),
    }
    busy = launches["device_busy_ms"] / 1e3
    if "bytes" in record and busy:
        entry["kernel_bytes_per_second"] = record["bytes"] / busy
        entry["kernel_share_of_bandwidth"] = record["bytes"] / busy / machine["bytes_per_second"]
    return entry
