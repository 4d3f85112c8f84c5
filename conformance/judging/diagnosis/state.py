"""Experiments on what a result depends on besides its input."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import numpy as np

from conformance.judging.diagnosis.log_dets import error_of
from conformance.judging.diagnosis.places import is_wrong
from conformance.laws.generators import seeded
from conformance.laws.trial import Pair, Trial

REPEATS = 3


def state_patterns(trial: Trial, direction: str) -> Iterator[Callable[[], str]]:
    """Yield the experiments for one direction."""
    for pattern in (_written_to, _random, _earlier_calls):
        yield lambda pattern=pattern: pattern(_separate(trial), direction)  # type: ignore[misc]


def batch_patterns(trial: Trial, direction: str) -> Iterator[Callable[[], str]]:
    """Yield the experiment on other examples of the batch, for one direction."""
    yield lambda: _batch(_separate(trial), direction)


def _separate(trial: Trial) -> Trial:
    """Return the trial with an object of its own: experiments must not change later laws."""
    other = copy.copy(trial)
    for name in ("built", "given_spec"):
        vars(other).pop(name, None)
    return other


def _input(trial: Trial, direction: str) -> np.ndarray:
    return trial.x if direction == "forward" else trial.y


def _differ(trial: Trial, one: Pair, other: Pair, roundings: float = 1000.0) -> bool:
    return any(
        not np.array_equal(a, b, equal_nan=True)
        and error_of(np.asarray(a, np.float64), np.asarray(b, np.float64)) > roundings * trial.eps
        for a, b in zip(one, other, strict=True)
    )


def _written_to(trial: Trial, direction: str) -> str:
    x, context = trial.cast(_input(trial, direction)), trial.cast(trial.context)
    assert x is not None
    before = x.copy(), None if context is None else context.copy()
    trial.call(direction, x, context)
    for name, array, given in (("input", x, before[0]), ("context", context, before[1])):
        if array is None or given is None:
            continue
        if not np.array_equal(array, given, equal_nan=True):
            return f"{direction} writes to its {name}: an in-place operation"
    return ""


def _call(trial: Trial, direction: str) -> Pair:
    return getattr(trial, direction)(_input(trial, direction), trial.context)


def _random(trial: Trial, direction: str) -> str:
    one, again = (seeded(1, lambda: _call(trial, direction)) for _ in range(2))
    other = seeded(2, lambda: _call(trial, direction))
    if not _differ(trial, one, again, roundings=0.0) and _differ(trial, one, other, roundings=0.0):
        return f"{direction} depends on a global random generator"
    return ""


def _earlier_calls(trial: Trial, direction: str) -> str:
    first, *later = [_call(trial, direction) for _ in range(REPEATS)]
    fresh = _fresh(trial, direction)
    if any(_differ(trial, first, one, roundings=0.0) for one in later):
        return f"{direction} changes from call to call: state or randomness"
    if _differ(trial, first, fresh):
        return f"{direction} depends on earlier calls: a new object gives another result"
    return ""


def _fresh(trial: Trial, direction: str) -> Pair:
    built = trial.build(trial.spec)
    result = getattr(built, direction)(
        trial.cast(_input(trial, direction)), trial.cast(trial.context)
    )
    return np.asarray(result[0]), np.asarray(result[1])


def _batch(trial: Trial, direction: str) -> str:
    """Compare each example with itself alone, and find the place in a large batch."""
    if trial.case.fixed_batch:
        return ""
    at, whole = _input(trial, direction), _call(trial, direction)
    call = getattr(trial, direction)
    for i in range(len(at)):
        part = slice(i, i + 1)
        alone = call(at[part], None if trial.context is None else trial.context[part])
        if _differ(trial, alone, (whole[0][part], whole[1][part]), roundings=1e5):
            return f"in {direction}, an example's result depends on the others in its batch"
    order = np.resize(np.arange(len(at)), 131)
    got = call(at[order], None if trial.context is None else trial.context[order])
    for part, expected in zip(got, whole, strict=True):
        want = np.asarray(expected, np.float64)[order].reshape(len(order), -1)
        largest = np.abs(want[np.isfinite(want)]).max(initial=1.0)
        found = np.asarray(part, np.float64).reshape(want.shape)
        differs = is_wrong(found / largest, want / largest, 1e5 * trial.eps)
        wrong = np.flatnonzero(differs.any(axis=1))
        if wrong.size and wrong[0] >= len(at):
            return f"in {direction}, examples from number {wrong[0]} of a large batch on are wrong"
    return ""
