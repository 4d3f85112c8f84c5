"""Parameters used wrongly: the specification with one mistake gives what was returned."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar

from conformance.judging.diagnosis.families import Family, families
from conformance.judging.diagnosis.log_dets import differs, error_of, explains
from conformance.judging.diagnosis.mistakes import Change, changed, mistakes
from conformance.laws.trial import Pair, Trial
from conformance.numerics.specs import objects
from reference.bijectors import Coupling, MixtureLogistic

MIN_NUMBERS = 3
"""Wrong numbers from which one number may be estimated."""


def estimate_patterns(trial: Trial, direction: str) -> Iterator[Callable[[], str]]:
    """Yield the estimate of one wrong number, for one direction."""
    yield lambda: estimated_mistake(trial, direction)


def known_mistake(trial: Trial, direction: str) -> str:
    """Name the mistake that explains the results best; "" if none does."""
    found = best_mistake(trial, direction)
    return found[0] if found else ""


def best_mistake(trial: Trial, direction: str) -> tuple[str, Change] | None:
    """Return the mistake that explains the results best, as in `mistakes`; None if none does."""
    if _hopeless(trial, direction):
        return None
    trial = _remembering(trial)
    best, found = np.inf, None
    for text, change in mistakes():
        rest = _rest(trial, direction, change)
        if rest < best and not _is_contradicted(trial, direction, change):
            best, found = rest, (text, change)
        if best <= 500 * trial.eps:
            break
    return found


def is_visible(spec: Any, change: Change, x: np.ndarray) -> bool:
    """Return whether a mistake changes the results at x."""
    other = changed(spec, change, in_couplings=True)
    if other is None:
        return False
    with np.errstate(all="ignore"):
        pairs = zip(spec.forward(x), other.forward(x), strict=True)
        return any(error_of(wrong, right) > 0.0 for right, wrong in pairs)


def estimated_mistake(trial: Trial, direction: str) -> str:
    """Estimate a clamp's ends, a factor or a margin from the results; "" if none explains them."""
    if direction == "inverse" and any(
        isinstance(part, (MixtureLogistic, Coupling)) for part in objects(trial.spec)
    ):
        return ""  # hundreds of root searches; forward shows the mistake as well
    if _hopeless(trial, direction) or _wrong_numbers(trial, direction) < MIN_NUMBERS:
        return ""
    trial = _remembering(trial)
    best, name = np.inf, ""
    for family in families(trial.spec):
        value = _estimate(trial, direction, family)
        rest = np.inf if value is None else _rest(trial, direction, family.change(value))
        if value is None or not rest < best:
            continue
        if not _is_contradicted(trial, direction, family.change(value)):
            best, name = rest, family.text(value)
    return name


def _estimate(trial: Trial, direction: str, family: Family) -> float | None:
    """Return the member of a family that explains the results, rounded where that suffices."""

    def misfit(value: float) -> float:
        return min(_misfit(trial, direction, family.change(float(value))), 1e300)

    errors = [misfit(value) for value in family.values]
    nearest = int(np.argmin(errors))
    value = family.values[nearest]
    if _rest(trial, direction, family.change(value)) < np.inf:
        return value
    low = family.values[max(nearest - 1, 0)]
    high = family.values[min(nearest + 1, len(errors) - 1)]
    if errors[nearest] >= misfit(family.none) or not low < high:
        return None
    found = minimize_scalar(misfit, bounds=(low, high), method="bounded", options={"xatol": 1e-9})
    for digits in range(2, 8):
        value = float(f"{found.x:.{digits}g}")
        if _rest(trial, direction, family.change(value)) < np.inf:
            return value
    return None


def _pairs(trial: Trial, direction: str, change: Change) -> tuple[Pair, Pair, Pair] | None:
    """Return what was returned, what is right, and what the mistake gives; None if nothing."""
    try:
        spec = changed(trial.spec, change, in_couplings=True)
    except (ValueError, FloatingPointError):  # no such specification
        return None
    if spec is None:
        return None
    at = trial.x if direction == "forward" else trial.y
    got = tuple(np.asarray(part, np.float64) for part in getattr(trial, f"got_{direction}"))
    with np.errstate(all="ignore"):
        if direction == "inverse" and not _may_explain(trial, spec, got[0]):
            return None
        would_be = getattr(spec, direction)(at, trial.context)
    return got, getattr(trial, f"want_{direction}"), would_be  # type: ignore[return-value]


def _may_explain(trial: Trial, spec: Any, x: np.ndarray) -> bool:
    """Return whether a mistake's forward map leads from x back nearer to y, at little cost."""
    if x.shape != trial.want_inverse[0].shape:
        return False
    back = error_of(spec.forward(x, trial.context)[0], trial.y)
    right = error_of(trial.reference("forward", x)[0], trial.y)
    return not (np.isfinite(right) and right > 1e-3 and back > 0.2 * right)


def _rest(trial: Trial, direction: str, change: Change) -> float:
    """Return the error that a mistake leaves; infinite if it does not explain the results.

    It must explain the values, and a wrong log-det too; a right log-det may be computed apart.
    """
    pairs = _pairs(trial, direction, change)
    if pairs is None:
        return np.inf
    (y, log_det), (want_y, want_log_det), (other_y, other_log_det) = pairs
    if not explains(y, other_y, want_y):
        return np.inf
    rest = error_of(y, other_y)
    if log_det.shape == want_log_det.shape and not differs(trial, log_det, want_log_det):
        return rest
    if not explains(log_det, other_log_det, want_log_det):
        return np.inf
    return max(rest, error_of(log_det, other_log_det))


def _is_contradicted(trial: Trial, direction: str, change: Change) -> bool:
    """Return whether the other direction is wrong in another way."""
    other = "inverse" if direction == "forward" else "forward"
    try:
        return not _hopeless(trial, other) and not np.isfinite(_rest(trial, other, change))
    except Exception:  # it is not supported, or raises
        return False


def _misfit(trial: Trial, direction: str, change: Change) -> float:
    """Return the mean distance of what was returned from what a mistake gives."""
    pairs = _pairs(trial, direction, change)
    if pairs is None:
        return np.inf
    got, other = pairs[0][0], pairs[2][0]
    with np.errstate(all="ignore"):
        scale = np.maximum(1.0, np.abs(got))
        misfit = float(np.mean(np.minimum(np.abs(got - other) / scale, 1e3)))
    return misfit if np.isfinite(misfit) else np.inf


def _remembering(trial: Trial) -> Trial:
    """Return the trial with conditioners that compute each result once: mistakes need it often."""
    spec = changed(trial.spec, _remembered)
    if spec is None:
        return trial
    trial.built  # noqa: B018  (from the specification itself)
    other = copy.copy(trial)
    vars(other)["spec"] = spec
    return other


def _remembered(value: Any) -> Any:
    if not isinstance(value, Coupling):
        return None
    kept: dict[tuple[bytes, bytes], np.ndarray] = {}

    def conditioner(a: np.ndarray, context: np.ndarray | None = None) -> np.ndarray:
        key = a.tobytes(), b"" if context is None else context.tobytes()
        if key not in kept:
            kept[key] = value.conditioner(a, context)
        return kept[key]

    return dataclasses.replace(value, conditioner=conditioner)


def _hopeless(trial: Trial, direction: str) -> bool:
    """Return whether no mistake is to be found: the values are right, or some are not finite."""
    got, want = getattr(trial, f"got_{direction}")[0], getattr(trial, f"want_{direction}")[0]
    got = np.asarray(got, np.float64)
    if got.shape != want.shape or not differs(trial, got, want):
        return True
    return not np.isfinite(got[np.isfinite(want)]).all()


def _wrong_numbers(trial: Trial, direction: str) -> int:
    got, want = getattr(trial, f"got_{direction}")[0], getattr(trial, f"want_{direction}")[0]
    error = np.abs(np.asarray(got, np.float64) - want)
    return int((error > 1e-6 * np.maximum(1.0, np.abs(want))).sum())
