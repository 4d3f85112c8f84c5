"""Where numbers are wrong: at which rows, columns or channels, and beyond which input."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from conformance.laws.trial import Trial
from conformance.numerics.specs import objects
from reference.bijectors import ActNorm, Affine, Coupling, MixtureLogistic, Sigmoid

AXES = ("example", "channel", "row", "column")
MIN_WRONG = 3
"""Wrong numbers of which a place is named: fewer may lie anywhere by chance."""
POINTS = 24
SECTIONS = 16
NEAREST, ORDINARY, REACH = 0.25, 2.0, 1e3
"""Smallest input tried, size of inputs that are no tails, and least size of the largest tried."""
ELEMENTWISE = (ActNorm, Affine, MixtureLogistic, Sigmoid)


def place_patterns(trial: Trial, direction: str) -> Iterator[Callable[[], str]]:
    """Yield the experiments on the place of wrong values, for one direction."""
    yield lambda: _place(trial, direction)
    yield lambda: _tail(trial, direction)


def _place(trial: Trial, direction: str) -> str:
    if any(isinstance(part, Coupling) for part in objects(trial.spec)):
        return ""  # half of the channels cannot be wrong
    got, want = getattr(trial, f"got_{direction}")[0], getattr(trial, f"want_{direction}")[0]
    return wrong_place(direction, np.asarray(got, np.float64), want, tolerance(trial.dtype))


def tolerance(dtype: np.dtype) -> float:
    """Return the relative error from which a number is wrong, not imprecise."""
    return 1e-7 if dtype == np.float64 else 1e-3


def is_wrong(got: np.ndarray, want: np.ndarray, limit: float) -> np.ndarray:
    """Return which numbers are wrong; NaN where a number is expected is wrong too."""
    with np.errstate(all="ignore"):
        near = np.abs(got - want) <= limit * np.maximum(1.0, np.abs(want))
        right = (got == want) | (near & np.isfinite(want))
    return np.asarray(~(right | (np.isnan(got) & np.isnan(want))))


def wrong_place(name: str, got: np.ndarray, want: np.ndarray, limit: float) -> str:
    """Name the rows, columns, channels or positions that are wrong, if it is exact."""
    if got.shape != want.shape or got.ndim != 4:
        return ""
    wrong = is_wrong(got, want, limit)
    if wrong.sum() < MIN_WRONG or wrong.all():
        return ""
    for axis in (3, 2, 1):
        others = tuple(i for i in range(4) if i != axis)
        place = _along(wrong, others, AXES[axis])
        if place:
            return f"{name} is wrong exactly in {place}{_relation(got, want, wrong)}"
    flat = wrong.reshape(*wrong.shape[:2], -1)
    place = _along(flat, (0, 1), "position")
    return f"{name} is wrong exactly in {place}{_relation(got, want, wrong)}" if place else ""


def _along(wrong: np.ndarray, others: tuple[int, ...], axis: str) -> str:
    """Return the places along one axis at which nearly all numbers are wrong, and nowhere else."""
    share = wrong.mean(axis=others)
    size = len(share)
    places = np.flatnonzero(share)
    if not 0 < len(places) < size or (share[places] < 0.9).any():
        return ""
    first, last = int(places[0]), int(places[-1])
    of = f" of {size}, counted from 0"
    if len(places) == 1:
        return f"{axis} {first}" + (" (the last)" if first == size - 1 else "") + of
    plural = f"{axis}s"
    if last - first + 1 == len(places):
        if last == size - 1:
            return f"{plural} from {first} on{of}"
        return f"{plural} {first} to {last}{of}"
    return f"{plural} {', '.join(map(str, places))}{of}" if len(places) <= 4 else ""


def _relation(got: np.ndarray, want: np.ndarray, wrong: np.ndarray) -> str:
    """Describe the wrong numbers, if one rule gives them all."""
    there, truth = got[wrong], want[wrong]
    if not np.isfinite(there).all() or not np.isfinite(truth).all():
        return ""
    if np.ptp(there) == 0.0:
        return f", where all are {there[0]:g}"
    with np.errstate(all="ignore"):
        ratios = there / truth
    ratio = float(np.median(ratios))
    if np.isfinite(ratios).all() and np.ptp(ratios) <= 0.01 * abs(ratio - 1.0):
        return f", where they are {ratio:.4g} times the truth"
    return ""


def _tail(trial: Trial, direction: str) -> str:
    """Find the number beyond which results are wrong, with inputs that are all the same number."""
    ends = trial.case.domain if direction == "forward" else trial.case.image
    alone = trial.case.scalars is not None or isinstance(trial.spec, ELEMENTWISE)
    if not alone or trial.case.fixed_batch or np.isfinite(ends).any():
        return ""
    farthest = 2.0 * float(np.abs(trial.x if direction == "forward" else trial.y).max(initial=0.0))
    sizes = np.geomspace(NEAREST, max(REACH, farthest), POINTS)
    for part, result in enumerate((direction, f"log_det of {direction}")):
        ends_found = [_end(trial, direction, part, sign * sizes) for sign in (1.0, -1.0)]
        if None in ends_found:
            return ""  # wrong at ordinary numbers too, or not from one number on
        if any(ends_found):
            return f"{result} is wrong {' and '.join(filter(None, ends_found))}"
    return ""


def _end(trial: Trial, direction: str, part: int, points: np.ndarray) -> str | None:
    """Return the number beyond which one result is wrong, "" if none is; None if it has no end."""
    wrong, there = _probed(trial, direction, part, points)
    if not wrong.any():
        return ""
    first = int(wrong.argmax())
    if abs(points[first]) < ORDINARY or not wrong[first:].all():
        return None
    low, high = points[first - 1], points[first]
    while abs(high - low) > 0.5e-3 * abs(high):
        grid = np.geomspace(low, high, SECTIONS + 2)
        inside, _ = _probed(trial, direction, part, grid[1:-1])
        place = int(inside.argmax()) if inside.any() else SECTIONS
        low, high = grid[place], grid[place + 1]
    same = "" if np.ptp(there[first:]) else f", where it stays at {there[-1]:.6g}"
    word, name = ("above" if high > 0 else "below"), ("x" if direction == "forward" else "y")
    return f"{word} {name} = {high:.3g}{same}"


def _probed(
    trial: Trial, direction: str, part: int, points: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return for which numbers a result is wrong, and the worst result there."""
    first = trial.case.scalars.first_channel if trial.case.scalars else 0
    shape = (trial.x if direction == "forward" else trial.y).shape[1:]
    x = np.zeros((len(points), *shape))
    x[:, first:] = points.reshape(-1, 1, 1, 1)
    x = np.asarray(trial.cast(x), np.float64)
    context = None if trial.context is None else np.repeat(trial.context[:1], len(points), axis=0)
    got = getattr(trial, direction)(x, context)[part]
    with np.errstate(all="ignore"):
        want = getattr(trial.spec, direction)(x, context)[part].reshape(len(points), -1)
        got = np.asarray(got, np.float64).reshape(want.shape)
        errors = np.nan_to_num(np.abs(got - want), nan=np.inf)
    wrong = is_wrong(got, want, 10.0 * tolerance(trial.dtype))
    return np.asarray(wrong.any(axis=1)), got[np.arange(len(got)), errors.argmax(axis=1)]
