"""The probable cause of a failure.

Each known pattern is an experiment: the result that one mistake would give is computed, and if it
matches what the implementation returned, that mistake is named. Without a match, the place of the
error is named if it is exact. A hint that no experiment supports says "possibly".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from conformance.judging.diagnosis import patterns
from conformance.judging.time_limit import TimeLimitExceeded
from conformance.laws import Law
from conformance.laws.trial import Violation


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
            for pattern in kind(trial, law, error):
                try:
                    hint = pattern()
                except (KeyboardInterrupt, GeneratorExit, TimeLimitExceeded):
                    raise
                except BaseException:  # the implementation may raise in the experiment too
                    continue
                if hint:
                    return hint
    raised = error is not None and not isinstance(error, Violation)
    return f"possibly {law.hint}" if law.hint and not raised else ""
