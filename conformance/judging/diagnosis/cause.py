"""The probable cause of a failure.

Each known pattern is an experiment: the result that one mistake would give is computed, and if it
matches what the implementation returned, that mistake is named. Without a match, the place of the
error is named if it is exact. A hint that no experiment supports says "possibly", and so does one
that a second failing example does not support.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from conformance.judging.diagnosis import patterns
from conformance.judging.time_limit import TimeLimitExceeded
from conformance.laws import Law
from conformance.laws.trial import Violation
from conformance.reports.grouping import without_numbers

GUESS = "possibly "


def probable_cause(trials: Iterable[Any], law: Law, error: BaseException | None) -> str:
    """Return the probable cause, else the place of the error, in one sentence; "" without either.

    Args:
        trials: The failed trial, then others on which the mistake may be clearer.
        law: The law that failed.
        error: The exception that ended the trial, if one did.
    """
    trials = list(trials)
    for kind in (patterns.applicable, patterns.places):
        for trial in trials:
            hint = _first(kind, trial, law, error)
            if hint:
                return hint
    raised = error is not None and not isinstance(error, Violation)
    return f"{GUESS}{law.hint}" if law.hint and not raised else ""


def cause_of_counterexample(smallest: Any, richest: Any, law: Law, error: BaseException) -> str:
    """Return the probable cause of the failures of a search.

    In a small example with simple numbers, several mistakes give the same result. So a cause that
    explains another example too is preferred, and one that explains the smallest alone is a guess.

    Args:
        smallest: Trial of the smallest counterexample.
        richest: Trial of the failing example with the most numbers.
        law: The law that failed.
        error: The counterexample.
    """
    hint = _first(patterns.applicable, smallest, law, error)
    other = _first(patterns.applicable, richest, law, error)
    if without_numbers(hint) == without_numbers(other):
        hint = hint or probable_cause([smallest], law, error)
    elif other:
        hint = other
    elif not hint.startswith(GUESS):
        hint = GUESS + hint
    return hint


def _first(kind: Callable, trial: Any, law: Law, error: BaseException | None) -> str:
    """Return the first hint that the patterns of a kind find, or ""."""
    for pattern in kind(trial, law, error):
        try:
            hint = pattern()
        except (KeyboardInterrupt, GeneratorExit, TimeLimitExceeded):
            raise
        except BaseException:  # the implementation may raise in the experiment too
            continue
        if hint:
            return str(hint)
    return ""
