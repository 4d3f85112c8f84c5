"""The laws that results do not depend on memory layout or on earlier calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from conformance.laws.generators import check_generators
from conformance.laws.law import Findings
from conformance.laws.layer_trial import LayerTrial
from conformance.laws.trial import Trial, Violation
from conformance.numerics.compare import Unresolved, compare

NEGATIVE_STRIDES = "negative strides"
REFUSED = "the implementation refuses negative strides with a ValueError"
STALE = 1e-2
"""Smallest error, relative to the truth, that shows a result of other inputs or parameters."""
ROUNDINGS = 48
"""Number of units that such an error must exceed."""


def layout(trial: Trial) -> Findings:
    """The same results for Fortran order, channels last, and memory with any strides."""
    for direction, at, want, units in directions(trial):
        x, context = np.array(at, trial.dtype), trial.cast(trial.context)
        for name, view in VIEWS.items():
            try:
                got = trial.call(direction, view(x), None if context is None else view(context))
            except ValueError:
                if name != NEGATIVE_STRIDES:
                    raise
                yield f"{direction}, {name}", Unresolved(1, REFUSED)
                continue
            yield from _compare(trial, f"{direction}, {name}", got, want, units)
        if not trial.case.fixed_batch and trial.inputs == "typical":
            repeated = [None if a is None else _repeated(a, 0) for a in (x, context)]
            got = trial.call(direction, *repeated)
            first = [_repeated(part, 0) for part in want]
            first_units = [None if unit is None else _repeated(unit, 0) for unit in units]
            yield from _compare(
                trial, f"{direction}, one example repeated", got, first, first_units
            )
    if trial.inputs == "tails":
        return
    row = _repeated(np.array(trial.x, trial.dtype), 3)
    context = trial.cast(trial.context)
    yield from _compare(
        trial,
        "forward, one column repeated",
        trial.call("forward", row, context),
        trial.call("forward", row.copy(), context),
        (None, None),
    )


def layer_layout(trial: LayerTrial) -> Findings:
    """The same of layers, dequantizers, models and functions."""
    if trial.inputs == "tails":
        return
    arguments = {name: trial.cast(array) for name, array in trial.arguments.items()}
    for label, view in VIEWS.items():
        try:
            got = trial.run_uncopied(
                {name: _viewed(array.copy(), label, view) for name, array in arguments.items()}
            )
        except ValueError:
            if label != NEGATIVE_STRIDES:
                raise
            yield label, Unresolved(1, REFUSED)
            continue
        for name, result in got.items():
            unit = trial.units.get(name)
            yield f"{name}, {label}", compare(result, trial.got[name], trial.dtype, unit=unit)


def determinism(trial: Trial) -> Findings:
    """The same results when called again, after other calls, and when built again."""
    for direction, at, want, units in directions(trial):
        x, context = np.array(at, trial.dtype), trial.cast(trial.context)

        def call(direction: str = direction, x=x, context=context) -> tuple:
            return trial.call(direction, x, context)

        first = call()
        copies = [part.copy() for part in first]
        yield from _compare(trial, f"{direction}, again", copies, want, units)
        trial.call(direction, np.array(x[::-1]), _reversed(context))
        for name, part, copy in zip(("result", "log_det"), first, copies, strict=True):
            if not np.array_equal(part, copy, equal_nan=True):
                raise Violation(f"the {name} of {direction} is overwritten by the next call")
        yield from _compare(trial, f"{direction}, after another", call(), want, units)
        if trial.inputs == "tails":
            continue
        for seeded in check_generators(call, direction):
            yield from _compare(trial, f"{direction}, seeded otherwise", seeded, want, units)
        _check_changed_input(trial, direction, at, x, context, want, units)
    again = trial.build(trial.spec)
    _check_other_parameters(trial)
    got = trial.call("forward", trial.cast(trial.x), trial.cast(trial.context), again)
    yield from _compare(
        trial,
        "forward, built again",
        got,
        trial.got_forward,
        (None, None),
    )


def _check_changed_input(trial: Trial, direction: str, at, x, context, want, units) -> None:
    """Require the results of the numbers that are in an array now, not of those that were.

    Raises:
        Violation: The results are those of other numbers.
    """
    # First all but the beginning, which a cache may take for the whole; then everything.
    last_as_first, reversed_ = np.arange(len(x)), np.arange(len(x))[::-1]
    last_as_first[-1] = 0
    for order in (last_as_first, last_as_first[reversed_]):
        x[...] = at[order]
        if context is not None:
            assert trial.context is not None
            context[...] = trial.context[order]
        if trial.case.fixed_batch:
            fresh = trial.build(trial.spec)
            expected = list(trial.call(direction, x.copy(), _copy(context), fresh))
        else:
            expected = [part[order] for part in want]
        got = trial.call(direction, x, context)
        for name, part, truth, unit in zip(
            ("result", "log_det"), got, expected, units, strict=True
        ):
            if is_stale(part, truth, None if unit is None else unit[order]):
                raise Violation(
                    f"the {name} of {direction} is wrong after its input was changed in place"
                )


def _check_other_parameters(trial: Trial) -> None:
    """Require objects built from other parameters to have the results of theirs.

    Raises:
        Violation: The results are those of other parameters.
    """
    other = trial.other_spec
    if other is None or trial.inputs == "tails":
        return
    own = (
        *zip(trial.got_forward, trial.want_forward, strict=True),
        (trial.got_inverse[1], trial.want_inverse[1]),
    )
    if any(is_stale(got, want) for got, want in own):
        return  # wrong for its own parameters as well
    with np.errstate(all="ignore"):
        y, log_det = other.forward(trial.x, trial.context)
        inside = np.clip(y, *trial.case.image).astype(trial.dtype)
    built = trial.build(other)
    given = trial.cast(trial.context)
    results = {
        "forward": (trial.call("forward", trial.cast(trial.x), given, built), (y, log_det)),
        "log_det of inverse": (trial.call("inverse", inside, given, built)[1:], (-log_det,)),
    }
    for name, (got, want) in results.items():
        for part, truth in zip(got, want, strict=True):
            if is_stale(part, truth):
                raise Violation(
                    f"{name} is wrong when another object is built from other parameters"
                )


def is_stale(got: np.ndarray, want: np.ndarray, unit: np.ndarray | None = None) -> bool:
    """Return whether results are so wrong that they must be those of other numbers.

    Rounding alone may change them by some units, where the map is ill-conditioned.
    """
    limit = STALE * np.maximum(1.0, abs(want)) + (0.0 if unit is None else ROUNDINGS * unit)
    with np.errstate(invalid="ignore"):
        error = abs(got - want)
    return bool((error > limit)[np.isfinite(want)].any())


def directions(trial: Trial) -> Iterator[tuple]:
    """Yield (direction, input, results, units), the inverse's only after forward is judged."""
    yield "forward", trial.x, trial.got_forward, (None, None)
    units = trial.unit_of_inverse, trial.unit_of_inverse_log_det
    yield "inverse", trial.y, trial.got_inverse, units


def _compare(trial: Trial, label: str, got, want, units) -> Findings:
    for name, part, expected, unit in zip(("", " log_det"), got, want, units, strict=True):
        yield label + name, compare(part, expected, trial.dtype, unit=unit)


def _copy(array: np.ndarray | None) -> np.ndarray | None:
    return None if array is None else array.copy()


def _reversed(array: np.ndarray | None) -> np.ndarray | None:
    return None if array is None else array[::-1].copy()


def _strided(x: np.ndarray) -> np.ndarray:
    between = np.nan if np.issubdtype(x.dtype, np.floating) else np.iinfo(x.dtype).max
    wide = np.full((*x.shape[:-1], 2 * x.shape[-1]), between, x.dtype)
    wide[..., ::2] = x
    return wide[..., ::2]


def _channels_last(x: np.ndarray) -> np.ndarray:
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)


def _negative(x: np.ndarray) -> np.ndarray:
    """Return a view of a reversed copy, reversed again."""
    return np.flip(np.flip(x).copy())


def _repeated(x: np.ndarray, axis: int) -> np.ndarray:
    """Return the first part along an axis, repeated by a stride of 0."""
    first = x[(slice(None),) * axis + (slice(1),)].copy()
    strides = tuple(0 if i == axis else stride for i, stride in enumerate(first.strides))
    return np.lib.stride_tricks.as_strided(first, x.shape, strides)


def _viewed(x: np.ndarray, label: str, view: Callable) -> np.ndarray:
    return x if x.ndim < 4 and label == "channels last" else view(x)


def _read_only(x: np.ndarray) -> np.ndarray:
    x = x.copy()
    x.flags.writeable = False
    return x


def _unaligned(x: np.ndarray) -> np.ndarray:
    """Return a copy that starts one element into its memory, unaligned for vector loads."""
    memory = np.empty(x.size + 1, x.dtype)
    memory[1:] = x.ravel()
    return memory[1:].reshape(x.shape)


VIEWS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "Fortran order": np.asfortranarray,
    "every other number": _strided,
    "channels last": _channels_last,
    "read-only": _read_only,
    "unaligned": _unaligned,
    NEGATIVE_STRIDES: _negative,
}
