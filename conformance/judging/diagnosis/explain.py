"""From a law's worst finding to a cell that explains itself."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from conformance.cases.case import Case
from conformance.judging.diagnosis.cause import probable_cause
from conformance.judging.diagnosis.reproducer import command, expression, script
from conformance.judging.result import Result
from conformance.judging.time_limit import TimeLimitExceeded, limit
from conformance.laws import Law
from conformance.laws.random_specs import Counterexample
from conformance.laws.trial import Trial, Violation
from conformance.numerics.specs import float_arrays

MOST_NUMBERS = 12
MOST_FIELDS = 16


def explain(cell: Result, finding: Any, judge: Any, law: Law) -> Result:
    """The cell with its error, the worst point, the probable cause and a reproducer.

    Args:
        cell: case, law, dtype, status and tolerance; a message, if it is known already.
        finding: the worst that the law has found.
        judge: who judged.
        law: under which.
    """
    changes: dict[str, Any] = {}
    trial, comparison, broken = finding.trial, finding.comparison, finding.broken
    if broken is None:
        changes["ulps"] = finding.ulps
    if comparison is not None:
        changes["message"] = f"{_inputs(trial)}{finding.label}: {comparison}"
        changes["point"] = {
            "what": finding.label,
            "index": list(comparison.index),
            "got": comparison.got,
            "want": comparison.want,
            "one_ulp": comparison.unit,
        }
    elif broken is not None and not isinstance(broken, TimeLimitExceeded):
        changes["message"] = f"{_inputs(trial)}{_text(broken)}"
    if cell.status != "fails":
        return dataclasses.replace(cell, **changes)

    seed = getattr(trial, "seed", judge.seed)
    changes["reproducer"] = command(cell, judge, seed)
    elsewhere = _elsewhere(trial, judge)
    if isinstance(broken, Counterexample):
        changes["point"] = _drawn(broken.drawn)
        changes["reproducer"] += "\n" + script(broken.drawn, judge.name, cell.dtype)
        trial = _trial_of(broken.drawn, judge, cell)
    elif isinstance(trial, Trial):
        changes["point"] = changes.get("point", {}) | _spelled_out(trial, law, comparison)
    if isinstance(broken, TimeLimitExceeded):
        changes["hint"] = "a loop without an end: a stopping rule that this dtype cannot meet, say"
    elif trial is not None:
        changes["hint"] = _cause([trial, *elsewhere], law, broken, judge.timeout)
    return dataclasses.replace(cell, **changes)


def _elsewhere(trial: Any, judge: Any) -> list[Any]:
    """The same draw on the other inputs: in the tails if it was typical ones."""
    if not hasattr(trial, "inputs"):
        return []
    other = "tails" if trial.inputs == "typical" else "typical"
    try:
        return [judge.trial(trial.case, trial.dtype.name, other, trial.seed)]
    except Exception:
        return []


def _cause(trials: list[Any], law: Law, broken: Any, seconds: float | None) -> str:
    try:
        with limit(seconds):
            return probable_cause(trials, law.name, broken)
    except TimeLimitExceeded:  # the implementation may also hang in the experiments
        return ""


def _inputs(trial: Any) -> str:
    return f"{trial.inputs}, " if hasattr(trial, "inputs") else ""


def _text(broken: BaseException) -> str:
    if isinstance(broken, Violation):
        return str(broken)
    frames = []
    traceback = broken.__traceback__
    while traceback is not None:
        frames.append(f"{traceback.tb_frame.f_code.co_filename}:{traceback.tb_lineno}")
        traceback = traceback.tb_next
    return f"{type(broken).__name__}: {broken} ({frames[-1] if frames else '?'})"


def _spelled_out(trial: Trial, law: Law, comparison: Any) -> dict[str, Any]:
    """The example where the error is worst, and the parameters."""
    backwards = "inverse" in law.name or law.name in ("round_trip_y", "opposite")
    name, at = ("y", "y") if backwards else ("x", "x")
    try:
        inputs = getattr(trial, at)
        example = 0
        if comparison is not None and comparison.index and comparison.index[0] < len(inputs):
            example = comparison.index[0]
        point: dict[str, Any] = {
            "example": example,
            "seed": trial.seed,
            "inputs": trial.inputs,
            name: _numbers(inputs[example]),
        }
        if trial.context is not None:
            point["context"] = _numbers(trial.context[example])
    except (Exception, SystemExit):  # the point is a service: what is wrong has been said already
        return {}
    point["parameters"] = _parameters(trial.spec)
    return point


def _drawn(drawn: Any) -> dict[str, Any]:
    return {
        "spec": expression(drawn.spec),
        "x": _numbers(drawn.x),
        "parameters": _parameters(drawn.spec),
    }


def _trial_of(drawn: Any, judge: Any, cell: Result) -> Trial:
    case = Case(cell.case, lambda rng: drawn.spec, lambda rng: drawn.x, lambda rng: drawn.x)
    return Trial(case, judge.adapter, cell.dtype, "typical", judge.seed, judge.device)


def _parameters(spec: Any) -> dict[str, str]:
    arrays = float_arrays(spec)
    shown = {path or "value": _numbers(a) for path, a in list(arrays.items())[:MOST_FIELDS]}
    if len(arrays) > MOST_FIELDS:
        shown["..."] = f"and {len(arrays) - MOST_FIELDS} more"
    return {"class": type(spec).__name__} | shown


def _numbers(array: np.ndarray) -> str:
    """Shape and numbers, the first of them if they are many."""
    flat = np.ravel(array)
    text = ", ".join(f"{value:.9g}" for value in flat[:MOST_NUMBERS])
    more = f", ... {flat.size - MOST_NUMBERS} more" if flat.size > MOST_NUMBERS else ""
    return f"{np.shape(array)} [{text}{more}]"
