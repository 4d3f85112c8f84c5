"""The laws that results do not depend on calls made at the same time by another thread."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np

from conformance.laws.consistency import directions
from conformance.laws.law import Findings
from conformance.laws.layer_trial import LayerTrial
from conformance.laws.trial import Trial
from conformance.numerics.compare import compare

SECONDS = 0.008
"""Time that the calls of each thread take alone; there are at least `MIN_CALLS`."""
MIN_CALLS, MAX_CALLS = 2, 100
SWITCH_INTERVAL = 1e-6
"""Seconds until Python may switch threads, instead of its 5 milliseconds."""

Arrays = Sequence[np.ndarray]


def threads(trial: Trial) -> Findings:
    """The same results when two threads call one object at the same time, with other inputs."""
    if trial.inputs == "tails":
        return
    context = trial.context
    other = None if context is None else context[::-1]
    for direction, at, _, units in directions(trial):
        call = getattr(trial, direction)
        calls = [partial(call, at, context), partial(call, at[::-1], other)]
        reversed_units = [None if unit is None else unit[::-1] for unit in units]
        for i, got, want in at_the_same_time(calls):
            for name, part, expected, unit in zip(
                ("", " log_det"), got, want, (units, reversed_units)[i], strict=True
            ):
                yield direction + name, compare(part, expected, trial.dtype, unit=unit)


def layer_threads(trial: LayerTrial) -> Findings:
    """The same of layers, dequantizers, models and functions."""
    if trial.inputs == "tails":
        return
    axes = trial.case.batched
    other = {
        name: np.flip(array, axes.get(name, 0)) if name in axes or not axes else array
        for name, array in trial.arguments.items()
    }
    names = list(trial.want)

    def call(arguments: dict[str, np.ndarray]) -> Arrays:
        results = trial.run(arguments)
        return [results[name] for name in names]

    calls = [lambda: call(trial.arguments), lambda: call(other)]
    for number, got, want in at_the_same_time(calls):
        for name, part, expected in zip(names, got, want, strict=True):
            unit = _unit(trial, name, reverse=number == 1)
            yield name, compare(part, expected, trial.dtype, unit=unit)


def _unit(trial: LayerTrial, name: str, *, reverse: bool) -> np.ndarray | None:
    """Return the size of one ulp of a result, or of that for examples in reverse order."""
    unit = trial.units.get(name)
    if unit is None or not reverse:
        return unit
    return np.flip(unit, 0) if trial.case.batched else None


def at_the_same_time(
    calls: Sequence[Callable[[], Arrays]],
) -> Iterator[tuple[int, Arrays, Arrays]]:
    """Yield (number of the call, its result in a thread of its own, its result alone), repeated.

    Raises:
        Exception: The first exception raised in a thread.
    """
    start, start_cpu = time.perf_counter(), time.process_time()
    alone = [[np.array(part) for part in call()] for call in calls]
    # On a busy machine wall time includes waiting, which must not reduce the number of calls.
    taken = min(time.perf_counter() - start, time.process_time() - start_cpu)
    each = taken / len(calls)
    count = int(np.clip(SECONDS / max(each, 1e-6), MIN_CALLS, MAX_CALLS))
    found: list[list[Arrays]] = [[] for _ in calls]
    errors: list[BaseException] = []
    barrier = threading.Barrier(len(calls))

    def repeat(call: Callable[[], Arrays], results: list[Arrays]) -> None:
        try:
            for _ in range(count):
                barrier.wait()
                results.append(call())
        except threading.BrokenBarrierError:
            pass  # the other thread has raised an error
        except BaseException as error:  # raised again in the calling thread
            errors.append(error)
            barrier.abort()

    with _frequent_switches():
        pool = [
            threading.Thread(target=repeat, args=pair, daemon=True)
            for pair in zip(calls, found, strict=True)
        ]
        for thread in pool:
            thread.start()
        for thread in pool:
            thread.join()
    if errors:
        raise errors[0]
    for i, (results, want) in enumerate(zip(found, alone, strict=True)):
        for got in results:
            yield i, got, want


@contextmanager
def _frequent_switches() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_INTERVAL)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
