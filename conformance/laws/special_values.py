"""The laws of special inputs: NaN, infinities, -0.0 and subnormal numbers.

A NaN gives NaN wherever it gives NaN in the reference, an infinity gives no finite number where it
gives none in the reference, and neither changes another example's results. The log-det of an
infinity is free: its limit may be finite. -0.0 and subnormals give the reference's results.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from conformance.laws.consistency import directions
from conformance.laws.guard import call_at
from conformance.laws.law import Findings
from conformance.laws.layer_trial import Arrays, LayerTrial
from conformance.laws.trial import Pair, Trial, Violation
from conformance.numerics.compare import Comparison, Unresolved, compare

NOT_FINITE = (np.nan, np.inf, -np.inf)
REFUSED = "the implementation refuses NaN or infinity with a ValueError"
REFERENCE_REFUSES = "the reference refuses this value"
MUST_NOT = "where the reference has no number"


def special_values(trial: Trial) -> Findings:
    """NaN and infinity give no finite number, and -0.0 and subnormals the reference's results."""
    if trial.inputs == "tails":
        return
    for direction, at, interval in (
        ("forward", trial.x, trial.case.domain),
        ("inverse", trial.y, trial.case.image),
    ):
        values = [*NOT_FINITE, *tiny_numbers(trial.dtype, *interval)]
        for group in [[value] for value in values] if trial.case.fixed_batch else [values]:
            yield from _check(trial, direction, at, group)


def layer_special_values(trial: LayerTrial) -> Findings:
    """The same of layers, dequantizers, models and functions, for each real argument."""
    if trial.inputs == "tails":
        return
    axes = trial.case.batched
    for name, array in trial.arguments.items():
        if not np.issubdtype(array.dtype, np.floating) or (axes and name not in axes):
            continue
        # A model is initialized from the whole batch, which takes long.
        values = (*NOT_FINITE, *tiny_numbers(trial.dtype)) if axes else (np.nan,)
        for value in values:
            changed = array.copy()
            changed[tuple(0 if i == axes.get(name, 0) else -1 for i in range(array.ndim))] = value
            arguments = {**trial.arguments, name: changed}
            label = f"{name} with {value:g}"
            try:
                want = trial.reference(arguments)
            except ValueError:
                yield label, Unresolved(1, REFERENCE_REFUSES)
                continue
            try:
                with np.errstate(all="ignore"):
                    got = trial.run(arguments)
            except ValueError:
                yield label, Unresolved(1, REFUSED)
                continue
            yield from _check_layer(trial, label, got, want, value)


def tiny_numbers(dtype: np.dtype, low: float = -np.inf, high: float = np.inf) -> Iterator[float]:
    """Yield -0.0, subnormals and the smallest normal number, those inside an open interval."""
    info = np.finfo(dtype)
    subnormal = 3 * float(info.smallest_subnormal)
    for value in (-0.0, subnormal, -subnormal, float(info.tiny)):
        if low < value < high:
            yield value


def _check(trial: Trial, direction: str, at: np.ndarray, values: Sequence[float]) -> Findings:
    """Check some values, in one batch of which each has a part."""
    x = np.concatenate([_with(at, value) for value in values])
    context = None if trial.context is None else np.concatenate([trial.context] * len(values))
    try:
        with np.errstate(all="ignore"):
            want = getattr(trial.spec, direction)(x, context)
    except (ValueError, ArithmeticError):
        yield from _one_by_one(trial, direction, at, values, REFERENCE_REFUSES)
        return
    try:
        with np.errstate(all="ignore"):
            got = getattr(trial, direction)(x, context)
    except ValueError:
        yield from _one_by_one(trial, direction, at, values, REFUSED)
        return
    for i, value in enumerate(values):
        part = slice(i * len(at), (i + 1) * len(at))
        here: Pair = (got[0][part], got[1][part])
        expected: Pair = (want[0][part], want[1][part])
        label = f"{direction} of {value:g}"
        trial.shown = call_at(direction, x[part], None if context is None else context[part])
        if np.isfinite(value):
            yield from _check_tiny(trial, direction, label, x[part], here, expected)
        else:
            yield from _check_not_finite(trial, direction, label, here, expected, value)


def _one_by_one(
    trial: Trial, direction: str, at: np.ndarray, values: Sequence[float], reason: str
) -> Findings:
    if len(values) > 1:
        for value in values:
            yield from _check(trial, direction, at, [value])
    else:
        yield f"{direction} of {values[0]:g}", Unresolved(1, reason)


def _with(at: np.ndarray, value: float) -> np.ndarray:
    """Put a value into the first channel of one example, and the last channel of another."""
    x = at.copy()
    x[0].flat[0] = value
    x[len(x) // 2].flat[-1] = value
    return x


def _check_not_finite(
    trial: Trial, direction: str, label: str, got: Pair, want: Pair, value: float
) -> Findings:
    changed = np.zeros(len(want[1]), bool)
    changed[[0, len(changed) // 2]] = True
    _, _, undisturbed, units = next(one for one in directions(trial) if one[0] == direction)
    for name, part, expected, alone, unit in zip(
        ("", " log_det"), got, want, undisturbed, units, strict=True
    ):
        if not (name and np.isinf(value)):
            _require(f"{label}:{name or ' it'}", part[changed], expected[changed], value)
        yield label + name, Comparison.exact(int(changed.sum()))
        if not changed.all():
            yield (
                f"{label}:{name} of another example",
                compare(
                    part[~changed],
                    alone[~changed],
                    trial.dtype,
                    unit=None if unit is None else unit[~changed],
                ),
            )


def _require(label: str, got: np.ndarray, want: np.ndarray, value: float) -> None:
    """Require NaN where a NaN gives NaN, and no number where an infinity gives none.

    Raises:
        Violation: A number is found there.
    """
    if np.isnan(value):
        wrong = np.isnan(want) & ~np.isnan(got)
    else:
        wrong = ~np.isfinite(want) & np.isfinite(got)
    if wrong.any():
        index = tuple(int(i) for i in np.argwhere(wrong)[0])
        place = ", ".join(str(i) for i in index)
        raise Violation(f"{label} is {got[index]:.6g} at [{place}], {MUST_NOT}")


def _check_tiny(
    trial: Trial, direction: str, label: str, x: np.ndarray, got: Pair, want: Pair
) -> Findings:
    units = (None, None) if direction == "forward" else trial.spread_units(x, want)
    changed = [0, len(x) // 2]
    for name, part, expected, unit in zip(("", " log_det"), got, want, units, strict=True):
        chosen = None if unit is None else unit[changed]
        yield label + name, compare(part[changed], expected[changed], trial.dtype, unit=chosen)


def _check_layer(
    trial: LayerTrial, label: str, got: Arrays, want: Arrays, value: float
) -> Findings:
    for name, expected in want.items():
        if np.isfinite(value):
            first = slice(1) if trial.case.batched else slice(None)
            truth, found = expected[first], got[name][first]
            known = ~np.isnan(truth)  # it is NaN where -0.0 is outside the domain
            yield f"{label}: {name}", compare(found[known], truth[known], trial.dtype)
            continue
        _require(f"{label}: {name}", got[name], expected, value)
        yield f"{label}: {name}", Comparison.exact(got[name].size)
        if trial.case.batched and len(expected) > 1:
            yield (
                f"{label}: {name} of another example",
                compare(got[name][1:], trial.got[name][1:], trial.dtype),
            )
