"""The worst point of a failure, as plain values: the input that failed, and the parameters."""

from __future__ import annotations

from typing import Any

import numpy as np

from conformance.cases.random import Drawn
from conformance.judging.diagnosis.reproducer import MAX_SPEC_LENGTH, expression
from conformance.judging.finding import Finding
from conformance.laws import Law
from conformance.laws.guard import Call, call_of
from conformance.laws.trial import Trial
from conformance.numerics.specs import float_arrays

MAX_NUMBERS = 12
MAX_FIELDS = 16


def point(finding: Finding, law: Law) -> dict[str, Any]:
    """Return the input that failed, and the parameters.

    It is the whole input of a call that raised an exception; else the example with the worst
    error, of the call that the law states, or of the inputs that it starts from.

    Args:
        finding: A finding on a `Trial`.
        law: The law that failed.
    """
    trial = finding.trial
    call = call_of(finding.error) or (finding.shown if isinstance(finding.shown, Call) else None)
    shown: dict[str, Any] = {"seed": trial.seed, "inputs": trial.inputs}
    try:
        if call is not None:
            shown |= _of_call(call, finding)
        else:
            shown |= _of_trial(trial, law, finding)
    except (Exception, SystemExit):  # the message already says what failed
        return {}
    return shown | {"parameters": _parameters(trial.spec)}


def _of_call(call: Call, finding: Finding) -> dict[str, Any]:
    first = next(iter(call.inputs.values()))
    shown: dict[str, Any] = {"call": str(call)}
    if finding.comparison is None:
        return shown | {name: _numbers(array) for name, array in call.inputs.items()}
    example = _example(finding, len(first))
    numbers = {name: _numbers(array[example]) for name, array in call.inputs.items()}
    return shown | {"example": example, **numbers}


def _of_trial(trial: Trial, law: Law, finding: Finding) -> dict[str, Any]:
    inputs = {name: getattr(trial, name) for name in law.inputs}
    if trial.context is not None:
        inputs["context"] = trial.context
    example = _example(finding, len(trial.x))
    numbers = {name: _numbers(array[example]) for name, array in inputs.items()}
    return {"example": example, **numbers}


def _example(finding: Finding, examples: int) -> int:
    """Return the number of the example with the worst error; 0 if it is of none."""
    index = finding.comparison.index if finding.comparison is not None else ()
    return index[0] if index and index[0] < examples else 0


def point_of_example(drawn: Drawn) -> dict[str, Any]:
    """Return a drawn specification, its inputs and parameters."""
    spec = expression(drawn.spec)
    written = {"spec": spec} if len(spec) <= MAX_SPEC_LENGTH else {}
    return {**written, "x": _numbers(drawn.x), "parameters": _parameters(drawn.spec)}


def _parameters(spec: Any) -> dict[str, str]:
    arrays = float_arrays(spec)
    shown = {path or "value": _numbers(a) for path, a in list(arrays.items())[:MAX_FIELDS]}
    if len(arrays) > MAX_FIELDS:
        shown["..."] = f"and {len(arrays) - MAX_FIELDS} more"
    return {"class": type(spec).__name__} | shown


def _numbers(array: np.ndarray) -> str:
    """Return an array's shape and first numbers."""
    flat = np.ravel(array)
    text = ", ".join(f"{value:.9g}" for value in flat[:MAX_NUMBERS])
    more = f", ... {flat.size - MAX_NUMBERS} more" if flat.size > MAX_NUMBERS else ""
    return f"{np.shape(array)} [{text}{more}]"
