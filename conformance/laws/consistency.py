"""The same question has the same answer: however it lies in memory, and however often asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from conformance.laws.trial import Trial, Violation
from conformance.numerics.compare import Comparison, compare


def layout(trial: Trial) -> Iterator[tuple[str, Comparison]]:
    """Memory layout does not matter: Fortran order, channels last, strided, read-only."""
    for direction, at, want, units in _sides(trial):
        x, context = np.array(at, trial.dtype), trial.cast(trial.context)
        for name, view in VIEWS.items():
            got = trial.answer(direction, view(x), None if context is None else view(context))
            yield from _compared(trial, f"{direction}, {name}", got, want, units)


def determinism(trial: Trial) -> Iterator[tuple[str, Comparison]]:
    """Asked again, asked after something else, and built anew: the same answer."""
    for direction, at, want, units in _sides(trial):
        x, context = np.array(at, trial.dtype), trial.cast(trial.context)
        first = trial.answer(direction, x, context)
        kept = [part.copy() for part in first]
        yield from _compared(trial, f"{direction}, again", kept, want, units)
        trial.answer(direction, np.array(x[::-1]), _reversed(context))
        for name, part, copy in zip(("result", "log_det"), first, kept, strict=True):
            if not np.array_equal(part, copy, equal_nan=True):
                raise Violation(f"the {name} of {direction} is overwritten by the next call")
        after = trial.answer(direction, x, context)
        yield from _compared(trial, f"{direction}, after another", after, want, units)
    anew = trial.built_anew()
    got = anew.forward(trial.cast(trial.x), trial.cast(trial.context))
    yield from _compared(
        trial,
        "forward, built anew",
        [np.asarray(part) for part in got],
        trial.got_forward,
        (None, None),
    )


def _sides(trial: Trial) -> list:
    return [
        ("forward", trial.x, trial.got_forward, (None, None)),
        (
            "inverse",
            trial.y,
            trial.got_inverse,
            (trial.unit_of_inverse, trial.unit_of_inverse_log_det),
        ),
    ]


def _compared(trial: Trial, label: str, got, want, units) -> Iterator[tuple[str, Comparison]]:
    for name, mine, theirs, unit in zip(("", " log_det"), got, want, units, strict=True):
        yield label + name, compare(mine, theirs, trial.dtype, unit=unit)


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
    """Starting one number into its memory: where vector loads do not like to begin."""
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
