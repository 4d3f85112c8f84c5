"""Known mistakes in values and gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from conformance.judging.diagnosis.log_dets import (
    differs,
    error_of,
    explains,
    first_non_finite,
    is_close,
)
from conformance.judging.diagnosis.parameters import known_mistake
from conformance.judging.diagnosis.rounding import bisection, in_float32, in_narrow_format
from conformance.laws.trial import Trial
from conformance.numerics.specs import objects
from reference.bijectors import Coupling

CLAMPS = (1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-10, 1e-12, 1e-15, 1e-22)


def value_patterns(trial: Trial, direction: str) -> Iterator[Callable[[], str]]:
    """Yield the patterns for the values of one direction."""
    for pattern in (
        _not_finite,
        _wrong_direction,
        _clamped,
        _halves,
        known_mistake,
        _permuted,
        in_narrow_format,
        bisection,
        in_float32,
    ):
        yield lambda pattern=pattern: pattern(trial, direction)  # type: ignore[misc]


def shift_patterns(trial: Trial, direction: str) -> Iterator[Callable[[], str]]:
    """Yield the patterns for a shift, which a dependence on the batch may look like."""
    yield lambda: _shifted(trial, direction)


def gradient_patterns(trial: Trial, direction: str) -> Iterator[Callable[[], str]]:
    """Yield the patterns for the gradients of one direction."""
    yield lambda: _detached(trial, direction)


def _sides(trial: Trial, direction: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (input, got, want).

    Raises:
        ValueError: There is nothing to explain: the shapes differ, or the values agree.
    """
    at = trial.x if direction == "forward" else trial.y
    got = np.asarray(getattr(trial, f"got_{direction}")[0], np.float64)
    want = getattr(trial, f"want_{direction}")[0]
    if got.shape != want.shape or not differs(trial, got, want):
        raise ValueError("no difference in values to explain")
    return at, got, want


def _would_be(trial: Trial, spec: Any, direction: str, at: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        return getattr(spec, direction)(at, trial.context)[0]


def _not_finite(trial: Trial, direction: str) -> str:
    name, at = ("x", trial.x) if direction == "forward" else ("y", trial.y)
    got = np.asarray(getattr(trial, f"got_{direction}")[0], np.float64)
    finite = np.isfinite(got)
    if finite.all():
        return ""
    index, place = first_non_finite(got)
    where = f"{direction} is {place}, "
    if got.shape == at.shape:
        where += f"where {name} = {at[index]:.3g}, "
    where += f"and not finite for {(~finite).sum()} of {got.size} numbers"
    if got.shape == at.shape and finite.any():
        tiny = np.abs(at) < np.finfo(trial.dtype).tiny
        if (tiny == ~finite).all():
            return f"{where}, exactly where {name} is 0 or subnormal; possibly a division by it"
        smallest = abs(at[~finite]).min()
        if smallest > abs(at[finite]).max():
            where += f", all with |{name}| from {smallest:.3g} on"
    return f"{where}; possibly an exponential overflows, or a logarithm of 0 is taken"


def _clamped(trial: Trial, direction: str) -> str:
    at, got, want = _sides(trial, direction)
    for smallest in CLAMPS:
        end = float(np.log1p(-smallest) - np.log(smallest))
        if direction == "forward":
            would_be = np.clip(want, -end, end)
        else:
            would_be = _would_be(trial, trial.spec, direction, np.clip(at, -end, end))
        if explains(got, would_be, want):
            return (
                f"a probability is clamped at {smallest:g}: {direction} is wrong beyond "
                f"|y| = {end:.4g} = logit(1 - {smallest:g})"
            )
    low, high = float(got.min()), float(got.max())
    beyond = (want < low) | (want > high)
    if (
        np.isfinite(got).all()
        and beyond.sum() > 1
        and explains(got, np.clip(want, low, high), want)
    ):
        furthest = float(want[beyond][np.abs(want[beyond]).argmax()])
        return (
            f"{direction} saturates: {beyond.sum()} values end at {low:.6g} or {high:.6g}, where "
            f"up to {furthest:.4g} is correct (possibly a clamp, or a bracket's end)"
        )
    return ""


def _halves(trial: Trial, direction: str) -> str:
    at, got, want = _sides(trial, direction)
    if at.shape[1] % 2 or want.shape[1] % 2:
        return ""

    def exchanged(x: np.ndarray) -> np.ndarray:
        return np.concatenate(np.split(x, 2, axis=1)[::-1], axis=1)

    if is_close(trial, got, exchanged(want)):
        return "the halves come out in the wrong order"
    inside = _would_be(trial, trial.spec, direction, exchanged(at))
    if is_close(trial, got, exchanged(inside)):
        conditional = any(isinstance(part, Coupling) for part in objects(trial.spec))
        return "halves swapped: the first half of the channels " + (
            "conditions, the second is changed" if conditional else "is treated as the second"
        )
    if is_close(trial, got, inside):
        return "the halves are passed in in the wrong order"
    return ""


def _permuted(trial: Trial, direction: str) -> str:
    """Recognize the right numbers in another order."""
    _, got, want = _sides(trial, direction)
    numbers = want.reshape(len(want), -1)
    if numbers.shape[1] < 2 or not (np.ptp(numbers, axis=1) > 0).all():
        return ""
    in_order = (np.sort(a.reshape(numbers.shape), axis=1) for a in (got, want))
    if error_of(*in_order) > 0.01 * error_of(got, want):
        return ""
    order = ""
    if explains(got, want[:, ::-1], want):
        order = "channels are in reverse"
    elif want.shape[2] == want.shape[3] and explains(got, want.swapaxes(2, 3), want):
        order = "height and width are exchanged"
    else:
        order = _moved(got, want)
    return f"{direction} has the right numbers in another order: {order}"


def _moved(got: np.ndarray, want: np.ndarray) -> str:
    """Say where the first number that is at a wrong place belongs."""
    at = tuple(int(i) for i in np.argwhere(got != want)[0])
    place = int(np.abs(want[at[0]] - got[at]).argmin())
    belongs = [at[0], *(int(i) for i in np.unravel_index(place, want.shape[1:]))]
    return f"the number at {list(at)} belongs at {belongs}"


def _shifted(trial: Trial, direction: str) -> str:
    """Recognize one shift of all outputs, or of all inputs."""
    at, got, want = _sides(trial, direction)
    difference = got - want
    if got.size > 1 and explains(got, want + difference.mean(), want):
        return f"{direction} is shifted by the same {difference.mean():.6g} everywhere"
    for axes, text in (((0,), "the batch"), ((1, 2, 3), "its example"), ((0, 2, 3), "a channel")):
        moved = at - at.mean(axis=axes, keepdims=True)
        if explains(got, _would_be(trial, trial.spec, direction, moved), want):
            return f"the mean over {text} is subtracted from the input"
    other = "inverse" if direction == "forward" else "forward"
    back = _would_be(trial, trial.spec, other, got) - at
    if got.size > 1 and np.isfinite(back).all():
        moved = at + np.median(back)
        if explains(got, _would_be(trial, trial.spec, direction, moved), want):
            return (
                f"{direction} is that of an input shifted by {np.median(back):.6g}: means or "
                "shifts are moved"
            )
    return ""


def _wrong_direction(trial: Trial, direction: str) -> str:
    at, got, _ = _sides(trial, direction)
    other = "inverse" if direction == "forward" else "forward"
    if is_close(trial, got, at):
        return f"{direction} returns its input"
    if is_close(trial, got, _would_be(trial, trial.spec, other, at)):
        return f"the directions are exchanged: {direction} computes the {other}"
    return ""


def _detached(trial: Trial, direction: str) -> str:
    """Take the gradient of the values alone, then of the log_det alone."""
    method = trial.optional("vjp" if direction == "forward" else "vjp_inverse")
    at = trial.x if direction == "forward" else trial.y
    value, log_det = getattr(trial, f"want_{direction}")
    none, ones = np.zeros_like(log_det), np.ones_like(log_det)
    for name, w, v in (
        ("the values", np.ones_like(value), none),
        ("log_det", np.zeros_like(value), ones),
    ):
        got = method(trial.cast(at), trial.cast(trial.context), trial.cast(w), trial.cast(v))
        slope = np.ones(1)
        if direction == "forward":
            slope = trial.reference_jacobian_at_x.log_det_gradient
        expected = name == "the values" or np.abs(slope).max() > 1e-6
        if expected and not np.asarray(got["x"]).any():
            return f"no gradient comes from {name} of {direction}: detached from the graph"
    return ""
