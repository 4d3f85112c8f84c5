"""The known patterns that could explain a failure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from conformance.judging.diagnosis.layers import layer_patterns, layer_place_patterns
from conformance.judging.diagnosis.log_dets import log_det_patterns
from conformance.judging.diagnosis.parameters import estimate_patterns
from conformance.judging.diagnosis.places import place_patterns
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
            yield from estimate_patterns(trial, direction)
        for direction in law.directions:
            yield from batch_patterns(trial, direction)
            yield from shift_patterns(trial, direction)
    elif isinstance(trial, LayerTrial):
        yield from layer_patterns(trial)


def places(trial: Any, law: Law, error: BaseException | None) -> Iterator[Pattern]:
    """Yield the experiments that find the place of an error, not its cause."""
    if error is not None and not isinstance(error, Violation):
        return
    if isinstance(trial, Trial):
        for direction in law.directions:
            yield from place_patterns(trial, direction)
    elif isinstance(trial, LayerTrial):
        yield from layer_place_patterns(trial)


def _by_message(message: str) -> str:
    for part, hint in MESSAGES.items():
        if part in message:
            return hint
    if "log_det of" in message and "has shape ()" in message:
        return "log_det must be one number per example: here it is summed over the batch as well"
    if "log_det of" in message and "has shape" in message:
        return "log_det must be one number per example: sum over channels, height and width"
    return ""
