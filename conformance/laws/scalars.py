"""The laws that a map of scalars is increasing, and reaches both ends of its range.

A case states which of its outputs depend on one scalar each (all of an elementwise map; the second
half of a coupling's), and the ends of domain and range. The reference is not used.
"""

from __future__ import annotations

import numpy as np

from conformance.cases.case import Scalars
from conformance.laws.law import Findings
from conformance.laws.trial import Trial, Violation
from conformance.numerics.compare import Comparison, compare, unit_of
from conformance.numerics.specs import round_to

FAR = 1e30
"""Largest |x| tried on an unbounded domain."""
SIZES = (20.0, 100.0, 300.0, 1e3)
"""|x|, and up to 300 |y|, at which both tails are compared with the reference."""
TARGETS = (100.0, 300.0, 1000.0)
"""|y| tried on an unbounded range: far beyond the largest logit of a CDF rounded to floats."""
NEAR = (1e-2, 1e-4)
"""Distances from the ends tried on a bounded range, as fractions of its width."""
REACHED = 0.01
"""Tolerance of a target, relative to its size or its distance from the end."""


def monotone(trial: Trial) -> Findings:
    """The larger of two x has the larger y, for each scalar."""
    scalars = _scalars_of(trial)
    x = round_to(_points(scalars.low, scalars.high), trial.dtype)
    y, log_det = _map_all(trial, "forward", x)
    if np.isnan(y).any():
        raise Violation(f"forward is NaN at {x[np.isnan(y).any(axis=1)][0]:g}")
    fall = np.maximum(y[:-1] - y[1:], 0.0)
    with np.errstate(invalid="ignore"):
        error = np.where(fall > 0, fall / unit_of(y[:-1], trial.dtype), 0.0)
    k, scalar = np.unravel_index(int(error.argmax()), error.shape)
    yield (
        f"y rises from x = {x[k]:g} to {x[k + 1]:g}, scalar {scalar}",
        Comparison(
            float(error[k, scalar]),
            (int(k), int(scalar)),
            float(y[k + 1, scalar]),
            float(y[k, scalar]),
            float(unit_of(y[k, scalar], trial.dtype)),
            count=error.size,
        ),
    )


def onto(trial: Trial) -> Findings:
    """forward reaches both ends of the range, and inverse returns from there."""
    scalars = _scalars_of(trial)
    (low, high), (start, end) = scalars.range, (scalars.low, scalars.high)
    if np.isinf(start):
        x = np.array([-FAR, FAR])
    else:
        x = start + (end - start) * np.array([1e-7, 1.0 - 1e-7])
    targets, distances = _targets(low, high)
    x, targets = round_to(x, trial.dtype), round_to(targets, trial.dtype)
    y, _ = _map_all(trial, "forward", x)
    if not (y[0] <= targets.min()).all() or not (y[1] >= targets.max()).all():
        raise Violation(
            f"forward reaches from {y[0].max():.6g} (x = {x[0]:g}) to {y[1].min():.6g} "
            f"(x = {x[1]:g}) only; the range is ({low:g}, {high:g})"
        )
    x, _ = _map_all(trial, "inverse", targets)
    if not np.isfinite(x).all():
        raise Violation(f"inverse is not finite at {targets[~np.isfinite(x).all(axis=1)][0]:g}")
    back = _map_each(trial, "forward", x)
    unit = REACHED * distances[:, None] * np.ones_like(back)
    error = np.abs(back - targets[:, None]) / unit
    k, scalar = np.unravel_index(int(np.nan_to_num(error, nan=np.inf).argmax()), error.shape)
    yield (
        f"forward(inverse({targets[k]:g})), scalar {scalar}",
        Comparison(
            float(np.nan_to_num(error[k, scalar], nan=np.inf)),
            (int(k), int(scalar)),
            float(back[k, scalar]),
            float(targets[k]),
            float(unit[k, scalar]),
            count=error.size,
        ),
    )


def both_tails(trial: Trial) -> Findings:
    """The reference's results equally far in both tails, for each scalar."""
    if trial.inputs == "tails":
        return
    scalars = _scalars_of(trial)
    for direction, ends, sizes in (
        ("forward", (scalars.low, scalars.high), SIZES),
        ("inverse", scalars.range, SIZES[:-1]),
    ):
        values = round_to(_tails(*ends, sizes), trial.dtype)
        got = _map_all(trial, direction, values)
        base = _filled(trial, direction, values)
        want = _reference(trial, direction, base)
        units: tuple = (None, None)
        if direction == "inverse":
            units = _spread(trial, base, want)
        for name, part, truth, unit in zip(("", " log_det"), got, want, units, strict=True):
            yield f"{direction}{name}, far out", compare(part, truth, trial.dtype, unit=unit)


def _tails(low: float, high: float, sizes: tuple[float, ...]) -> np.ndarray:
    if np.isinf(low):
        return np.concatenate([-np.array(sizes), sizes])
    near = (high - low) * np.array((*NEAR, 1e-6))
    return np.concatenate([low + near, high - near])


def _reference(trial: Trial, direction: str, base: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    with np.errstate(all="ignore"):
        result, log_det = getattr(trial.spec, direction)(base, _context(trial, len(base)))
    return _outputs(result, _scalars_of(trial).first_channel), log_det


def _spread(trial: Trial, y: np.ndarray, want: tuple[np.ndarray, np.ndarray]) -> tuple:
    """Return units of the inverse: roundings, and its change when y moves by 2, or x by 1."""
    moved = [_reference(trial, "inverse", at) for at in _neighbours(trial, y, 2.0)]
    with np.errstate(all="ignore"):
        x, _ = trial.spec.inverse(y, _context(trial, len(y)))
    # One rounding of x may cross a narrow component, which y does not notice.
    at_root = [
        _reference(trial, "forward", trial.in_domain(at))[1] for at in _neighbours(trial, x, 1.0)
    ]
    changes = [
        sum(np.nan_to_num(abs(m[i] - part), posinf=0.0) for m in moved)
        for i, part in enumerate(want)
    ]
    changes[1] = np.maximum(
        changes[1], sum(np.nan_to_num(abs(part + want[1]), posinf=0.0) for part in at_root)
    )
    return tuple(
        unit_of(part, trial.dtype) + change for part, change in zip(want, changes, strict=True)
    )


def _neighbours(trial: Trial, at: np.ndarray, roundings: float) -> list[np.ndarray]:
    """Return the array with its scalars some roundings lower, and as much higher."""
    step = roundings * trial.eps * np.maximum(1.0, abs(at))
    step[:, : _scalars_of(trial).first_channel] = 0.0
    return [at - step, at + step]


def _targets(low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """Return target y, and their distances from 0 or from the near end of a bounded range."""
    if np.isinf(low):
        sizes = np.array(TARGETS)
        return np.concatenate([-sizes[::-1], sizes]), np.concatenate([sizes[::-1], sizes])
    near = (high - low) * np.array(NEAR)
    return np.concatenate([low + near, high - near]), 10.0 * np.concatenate([near, near])


def _points(low: float, high: float) -> np.ndarray:
    """Return increasing numbers, dense in the middle and towards the ends."""
    if np.isinf(low):
        sizes = 10.0 ** np.linspace(-3.0, 6.0, 40)
        return np.unique(np.concatenate([-sizes, sizes, np.linspace(-12.0, 12.0, 61)]))
    near = 0.5 * 10.0 ** np.linspace(-6.0, 0.0, 30)
    parts = np.unique(np.concatenate([near, 1.0 - near, np.linspace(0.01, 0.99, 50)]))
    return low + (high - low) * parts


def _map_all(trial: Trial, direction: str, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Map each value as the input of all scalars; return results `(n, scalars)` and log_det."""
    base = _filled(trial, direction, values)
    result, log_det = getattr(trial, direction)(base, _context(trial, len(values)))
    return _outputs(result, _scalars_of(trial).first_channel), log_det


def _filled(trial: Trial, direction: str, values: np.ndarray) -> np.ndarray:
    """Return a batch with each value as the input of all scalars of one example."""
    base = _base(trial, direction, len(values))
    base[:, _scalars_of(trial).first_channel :] = values[:, None, None, None]
    return base


def _map_each(trial: Trial, direction: str, values: np.ndarray) -> np.ndarray:
    """Map values `(n, scalars)`, one for each scalar; return results `(n, scalars)`."""
    first = _scalars_of(trial).first_channel
    base = _base(trial, direction, len(values))
    base[:, first:] = values.reshape(base[:, first:].shape)
    return _outputs(getattr(trial, direction)(base, _context(trial, len(values)))[0], first)


def _scalars_of(trial: Trial) -> Scalars:
    assert trial.case.scalars is not None  # both laws require them, see LAWS
    return trial.case.scalars


def _base(trial: Trial, direction: str, count: int) -> np.ndarray:
    # A coupling does not change the half that it conditions on.
    at = trial.x if direction == "forward" else trial.want_forward[0]
    return np.repeat(at[:1], count, axis=0)


def _outputs(result: np.ndarray, first: int) -> np.ndarray:
    return result[:, first:].reshape(len(result), -1).astype(np.float64)


def _context(trial: Trial, count: int) -> np.ndarray | None:
    return None if trial.context is None else np.repeat(trial.context[:1], count, axis=0)
