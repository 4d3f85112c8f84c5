"""The known patterns that could explain a failure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from conformance.judging.diagnosis.log_dets import first_non_finite, log_det_patterns
from conformance.judging.diagnosis.sizes import size_patterns
from conformance.judging.diagnosis.state import batch_patterns, state_patterns
from conformance.judging.diagnosis.values import (
    gradient_patterns,
    shift_patterns,
    value_patterns,
)
from conformance.laws import Law
from conformance.laws.layer_trial import LayerTrial
from conformance.laws.random_trial import RandomTrial
from conformance.laws.trial import Trial, Violation

Pattern = Callable[[], str]
"""An experiment: returns the cause, or "" if it does not explain the failure."""

MESSAGES = {
    "not (array, log_det)": "forward and inverse must return a pair: the array and its log_det",
    "has written to its": "an in-place operation modifies the caller's array",
    "specification has been written to": "an in-place operation modifies the given parameters",
    "is float32, not float64": "an array is created or kept in float32, whatever the dtype",
    "is float64, not float32": "an array is created or kept in float64, whatever the dtype",
    "overwritten by the next call": "one buffer is returned by several calls",
    "destination is read-only": "an in-place operation modifies the caller's array",
    "output array is read-only": "an in-place operation modifies the caller's array",
    "reseeds the global random generator": "a seed is set for the whole process: a generator of "
    "its own must be used",
    "after its input was changed in place": "results are kept by the identity, address or shape "
    "of an array, whatever its numbers are now",
    "after an argument was changed in place": "results are kept by the identity, address or shape "
    "of an array, whatever its numbers are now",
    "built from other parameters": "a value computed from the parameters is kept for all objects, "
    "by shape or class",
    "where the reference has no number": "a NaN or an infinity is replaced: by a clip, by "
    "nan_to_num, or in a branch whose comparison is false for NaN",
    "empty batch": "an empty batch is not handled",
    "not (0,)": "an empty batch is not handled",
}
"""Causes by a part of the error message."""


def applicable(trial: Any, law: Law, error: BaseException | None) -> Iterator[Pattern]:
    """Yield the patterns that could explain a failure, the most specific first."""
    if error is not None:
        yield lambda: _by_message(str(error))
        if not isinstance(error, Violation):
            return  # an exception is shown as such
    if isinstance(trial, RandomTrial):
        yield from size_patterns(trial)
    elif isinstance(trial, Trial):
        if law.gradients:
            yield from gradient_patterns(trial, law.directions[0])
        for direction in law.directions:
            yield from state_patterns(trial, direction)
        for direction in law.directions:
            yield from value_patterns(trial, direction)
            yield from log_det_patterns(trial, direction)
        for direction in law.directions:
            yield from batch_patterns(trial, direction)
            yield from shift_patterns(trial, direction)
    elif isinstance(trial, LayerTrial):
        yield from layer_patterns(trial)


def _by_message(message: str) -> str:
    for part, hint in MESSAGES.items():
        if part in message:
            return hint
    if "log_det of" in message and "has shape ()" in message:
        return "log_det must be one number per example: here it is summed over the batch as well"
    if "log_det of" in message and "has shape" in message:
        return "log_det must be one number per example: sum over channels, height and width"
    return ""


def layer_patterns(trial: LayerTrial) -> Iterator[Pattern]:
    """Yield the patterns for each named result of a layer."""
    for name in trial.want:
        yield lambda name=name: _layer(trial, name)  # type: ignore[misc]


def _layer(trial: LayerTrial, name: str) -> str:
    got = np.asarray(trial.got[name], np.float64)
    want = trial.want[name]
    tolerance = 1e-7 if trial.dtype == np.float64 else 1e-4

    def matches(value: np.ndarray) -> bool:
        return bool(np.allclose(got, value, rtol=tolerance, atol=tolerance))

    if got.shape != want.shape or matches(want):
        return ""
    if (np.isfinite(want) & ~np.isfinite(got)).any():
        wrong = np.where(np.isfinite(want), got, 0.0)
        return (
            f"{name} is {first_non_finite(wrong)[1]}; possibly an exponential overflows, or a "
            "logarithm of 0 is taken"
        )
    if name == "total" and "log_q" in trial.want:
        log_q = trial.want["log_q"]
        if matches(want + log_q):
            return "log q is left out of the bound"
        if matches(want + 2.0 * log_q):
            return "log q has the opposite sign: it is subtracted from the bound"
    if matches(-want):
        return f"{name} has the opposite sign"
    if matches(want * np.log(2.0)):
        return f"{name} is in nats and must be in bits: natural logarithm for log2"
    if matches(want / np.log(2.0)):
        return f"{name} is in bits and must be in nats: log2 for the natural logarithm"
    if not got.any():
        return f"{name} is 0: lost, or never computed"
    return _layer_batch(name, got, want, tolerance)


def _layer_batch(name: str, got: np.ndarray, want: np.ndarray, tolerance: float) -> str:
    """Explain a result of one number per example."""
    if got.ndim != 1 or len(got) < 2 or not (np.isfinite(got) & np.isfinite(want)).all():
        return ""
    difference = got - want
    if np.ptp(difference) <= tolerance * max(1.0, abs(want).max()):
        return (
            f"{name} differs by the same {difference.mean():.6g} in every example: "
            "a constant is missing or superfluous"
        )
    if np.ptp(got) == 0.0 and np.ptp(want) > 0.0:
        return f"{name} is the same for all examples: computed per batch, not per example"
    return ""
