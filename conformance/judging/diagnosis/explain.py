"""The explanation of a result: worst point, probable cause and reproducer."""

from __future__ import annotations

import copy
import dataclasses
import traceback
from typing import Any

from conformance.cases.case import Case
from conformance.cases.random import Drawn
from conformance.judging.diagnosis.cause import cause_of_counterexample, probable_cause
from conformance.judging.diagnosis.points import point, point_of_example
from conformance.judging.diagnosis.reproducer import command, script
from conformance.judging.finding import Finding
from conformance.judging.precision import error_in_ulps
from conformance.judging.time_limit import TimeLimitExceeded, time_limit
from conformance.laws import Law
from conformance.laws.guard import with_call
from conformance.laws.random_specs import Counterexample
from conformance.laws.trial import Trial, Violation
from conformance.numerics.compare import WrongShape
from conformance.reports.result import FAILING, Result, wrong_bits


def explain(result: Result, finding: Finding, judge: Any, law: Law) -> Result:
    """Return the result with its error, and for a failure the point, the cause and a reproducer.

    Args:
        result: The result without an explanation.
        finding: The worst error that the law found.
        judge: The `Judge` that judged.
        law: The law that was checked.
    """
    changes: dict[str, Any] = {}
    trial, comparison, error = finding.trial, finding.comparison, finding.error
    if error is None:
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
    elif error is not None and not isinstance(error, TimeLimitExceeded):
        changes["message"] = f"{_inputs(trial)}{_text(error)}"
    if result.status not in FAILING:
        return dataclasses.replace(result, **changes)

    seed = getattr(trial, "seed", judge.seed)
    changes["reproducer"] = command(result, judge, seed)
    others = _other_inputs(trial, judge)
    if isinstance(error, Counterexample):
        changes["point"] = point_of_example(error.drawn)
        changes["reproducer"] += "\n" + script(error.drawn, judge.name, result.dtype)
        trial = _trial_of(error.drawn, judge, result)
        others = [_trial_of(error.richest, judge, result)]
    elif isinstance(trial, Trial):
        changes["point"] = changes.get("point", {}) | point(finding, law)
    elif isinstance(finding.shown, Drawn):
        changes["point"] = changes.get("point", {}) | point_of_example(finding.shown)
    if isinstance(error, TimeLimitExceeded):
        changes["hint"] = (
            "possibly an endless loop, as of a stopping rule this dtype cannot meet; or a "
            "compilation, which the adapter's prepare() should do"
        )
    elif result.status == "imprecise":
        size = error_in_ulps(finding)
        changes["ulps"] = size
        if isinstance(error, Counterexample):
            changes["allowed"] = error.allowed
        lost = f"right formula, loses {wrong_bits(size, result.dtype):.1f} bits"
        changes["message"] = f"{lost}: {changes['message']}"
    elif trial is not None:
        changes["hint"] = _cause(
            [_apart(one) for one in (trial, *others)], law, error, judge.timeout
        )
    return dataclasses.replace(result, **changes)


def with_traceback(result: Result, finding: Finding, judge: Any) -> Result:
    """Return the result of a law that raised an exception itself, with the traceback.

    Args:
        result: The result.
        finding: The law's exception, and the trial that it occurred on.
        judge: The `Judge` that judged.
    """
    assert finding.law_error is not None
    return dataclasses.replace(
        result,
        message=f"{_inputs(finding.trial)}{result.message}",
        traceback="".join(traceback.format_exception(finding.law_error)),
        reproducer=command(result, judge, getattr(finding.trial, "seed", judge.seed)),
    )


def _apart(trial: Any) -> Any:
    """Return a trial with the same results and an implementation of its own.

    Experiments call it, and must not change what a cache in the judged object holds.
    """
    copied = copy.copy(trial)
    vars(copied).pop("built", None)
    return copied


def _other_inputs(trial: Any, judge: Any) -> list[Any]:
    """Return the trial of the same draw on the other inputs, typical or tails."""
    if not hasattr(trial, "inputs"):
        return []
    other = "tails" if trial.inputs == "typical" else "typical"
    try:
        return [judge.trial(trial.case, trial.dtype.name, other, trial.seed)]
    except Exception:
        return []


def _cause(trials: list[Any], law: Law, error: BaseException | None, seconds: float | None) -> str:
    try:
        with time_limit(seconds):
            if isinstance(error, Counterexample):
                smallest, richest = trials
                return cause_of_counterexample(smallest, richest, law, error)
            return probable_cause(trials, law, error)
    except TimeLimitExceeded:  # the experiments call the implementation again
        return ""


def _inputs(trial: Any) -> str:
    return f"{trial.inputs}, " if hasattr(trial, "inputs") else ""


def _text(error: BaseException) -> str:
    """Return the message of a violation; of any other error also its call, type and location."""
    if isinstance(error, (Violation, WrongShape)):
        return str(error)
    frames = []
    entry = error.__traceback__
    while entry is not None:
        frames.append(f"{entry.tb_frame.f_code.co_filename}:{entry.tb_lineno}")
        entry = entry.tb_next
    return f"{with_call(error)} ({frames[-1] if frames else '?'})"


def _trial_of(drawn: Drawn, judge: Any, result: Result) -> Trial:
    case = Case(result.case, lambda rng: drawn.spec, lambda rng: drawn.x, lambda rng: drawn.x)
    return Trial(case, judge.adapter, result.dtype, "typical", judge.seed, judge.device)
