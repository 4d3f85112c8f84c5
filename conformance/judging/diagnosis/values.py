"""Known mistakes in values and gradients."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from conformance.judging.diagnosis.log_dets import first_non_finite, is_close
from conformance.laws.trial import Trial
from conformance.numerics.specs import is_object
from reference.bijectors import ActNorm, Affine, InvertibleConv, InvertibleConvLU

CLAMPS = (1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-10, 1e-12, 1e-15, 1e-22)


def value_patterns(trial: Trial, direction: str) -> Iterator[Callable[[], str]]:
    """Yield the patterns for the values of one direction."""
    for pattern in (_not_finite, _clamped, _halves, _parameters, _wrong_direction, _precision):
        yield lambda pattern=pattern: pattern(trial, direction)  # type: ignore[misc]


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
    if got.shape != want.shape or is_close(trial, got, want):
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
        if is_close(trial, got, would_be):
            return (
                f"a probability is clamped at {smallest:g}: {direction} is wrong beyond "
                f"|y| = {end:.4g} = logit(1 - {smallest:g})"
            )
    low, high = float(got.min()), float(got.max())
    beyond = (want < low) | (want > high)
    if (
        np.isfinite(got).all()
        and beyond.sum() > 1
        and is_close(trial, got, np.clip(want, low, high))
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
        return "halves swapped: the first half of the channels conditions, the second is changed"
    if is_close(trial, got, inside):
        return "the halves are passed in in the wrong order"
    return ""


def _parameters(trial: Trial, direction: str) -> str:
    at, got, _ = _sides(trial, direction)
    for text, change in MISTAKES:
        spec = _changed(trial.spec, change)
        if spec is not None and is_close(trial, got, _would_be(trial, spec, direction, at)):
            return text
    return ""


def _wrong_direction(trial: Trial, direction: str) -> str:
    at, got, _ = _sides(trial, direction)
    other = "inverse" if direction == "forward" else "forward"
    if is_close(trial, got, at):
        return f"{direction} returns its input"
    if is_close(trial, got, _would_be(trial, trial.spec, other, at)):
        return f"the directions are exchanged: {direction} computes the {other}"
    return ""


def _precision(trial: Trial, direction: str) -> str:
    at = trial.x if direction == "forward" else trial.y
    got = np.asarray(getattr(trial, f"got_{direction}")[0], np.float64)
    want = getattr(trial, f"want_{direction}")[0]
    if trial.dtype != np.float64 or got.shape != want.shape or not np.isfinite(got).all():
        return ""
    wrong = abs(got - want) / np.maximum(1.0, abs(want))
    size = float(np.median(wrong[wrong > 0])) if (wrong > 0).any() else 0.0
    if 1e-9 < size < 1e-6 and (wrong > 1e-10).mean() > 0.2 and at.size > 2:
        return (
            f"errors of about {size:.1g}, the rounding of float32: possibly some operation is in "
            "float32"
        )
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


# Specifications with one mistake each


def _changed(spec: Any, change: Callable[[Any], Any]) -> Any:
    """Return a copy with `change` made wherever it applies; None if it applies nowhere."""
    found = False

    def walk(value: Any) -> Any:
        nonlocal found
        if isinstance(value, tuple):
            return tuple(walk(item) for item in value)
        if not is_object(value):
            return value
        other = change(value)
        if other is not None:
            found = True
            return other
        fields = {f.name: walk(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return dataclasses.replace(value, **fields)

    result = walk(spec)
    return result if found else None


def _transposed(value: Any) -> Any:
    if isinstance(value, InvertibleConv):
        return InvertibleConv(value.weight.swapaxes(1, 2))
    return None


def _inverted(value: Any) -> Any:
    if isinstance(value, InvertibleConv):
        return InvertibleConv(np.linalg.inv(value.weight))
    return None


def _inverse_permutation(value: Any) -> Any:
    if isinstance(value, InvertibleConvLU):
        return dataclasses.replace(value, permutation=np.argsort(value.permutation, axis=1))
    return None


def _negative_scale(value: Any) -> Any:
    return Affine(-value.log_scale, value.shift) if isinstance(value, Affine) else None


def _shift_first(value: Any) -> Any:
    if isinstance(value, Affine):
        return Affine(value.log_scale, value.shift * np.exp(value.log_scale))
    if isinstance(value, ActNorm):
        return ActNorm(value.gain, value.bias * np.maximum(value.gain, 1e-10))
    return None


def _no_shift(value: Any) -> Any:
    if isinstance(value, Affine):
        return Affine(value.log_scale, 0.0 * value.shift)
    return ActNorm(value.gain, 0.0 * value.bias) if isinstance(value, ActNorm) else None


MISTAKES: tuple[tuple[str, Callable[[Any], Any]], ...] = (
    ("the matrix of the 1x1 convolution is transposed", _transposed),
    ("the matrix of the 1x1 convolution is inverted", _inverted),
    ("the permutation of the LU convolution is applied the wrong way round", _inverse_permutation),
    ("the log-scale of an affine map has the opposite sign", _negative_scale),
    ("the shift comes before the scale", _shift_first),
    ("the shift is left out", _no_shift),
)
