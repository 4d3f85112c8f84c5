"""The laws that results do not depend on memory layout or on earlier calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from conformance.laws.law import Findings
from conformance.laws.trial import Trial, Violation
from conformance.numerics.compare import compare


def layout(trial: Trial) -> Findings:
    """The same results for Fortran-order, channels-last, strided, read-only, unaligned memory."""
    for direction, at, want, units in directions(trial):
        x, context = np.array(at, trial.dtype), trial.cast(trial.context)
        for name, view in VIEWS.items():
            got = trial.call(direction, view(x), None if context is None else view(context))
            yield from _compare(trial, f"{direction}, {name}", got, want, units)


def determinism(trial: Trial) -> Findings:
    """The same results when called again, after another call, and when built again."""
    for direction, at, want, units in directions(trial):
        x, context = np.array(at, trial.dtype), trial.cast(trial.context)
        first = trial.call(direction, x, context)
        copies = [part.copy() for part in first]
        yield from _compare(trial, f"{direction}, again", copies, want, units)
        trial.call(direction, np.array(x[::-1]), _reversed(context))
        for name, part, copy in zip(("result", "log_det"), first, copies, strict=True):
            if not np.array_equal(part, copy, equal_nan=True):
                raise Violation(f"the {name} of {direction} is overwritten by the next call")
        after = trial.call(direction, x, context)
        yield from _compare(trial, f"{direction}, after another", after, want, units)
    again = trial.build_again()
    got = again.forward(trial.cast(trial.x), trial.cast(trial.context))
    yield from _compare(
        trial,
        "forward, built again",
        [np.asarray(part) for part in got],
        trial.got_forward,
        (None, None),
    )


def directions(trial: Trial) -> Iterator[tuple]:
    """Yield (direction, input, results, units), the inverse's only after forward is judged."""
    yield "forward", trial.x, trial.got_forward, (None, None)
    units = trial.unit_of_inverse, trial.unit_of_inverse_log_det
    yield "inverse", trial.y, trial.got_inverse, units


def _compare(trial: Trial, label: str, got, want, units) -> Findings:
    for name, part, expected, unit in zip(("", " log_det"), got, want, units, strict=True):
        yield label + name, compare(part, expected, trial.dtype, unit=unit)


def _reversed(array: np.ndarray | None) -> np.ndarray | None:
    return None if array is None else array[::-1].copy()


def _strided(x: np.ndarray) -> np.ndarray:
    wide = np.full((*x.shape[:-1], 2 * x.shape[-1]), np.nan, x.dtype)
    wide[..., ::2] = x
    return wide[..., ::2]


def _channels_last(x: np.ndarray) -> np.ndarray:
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)


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
}
