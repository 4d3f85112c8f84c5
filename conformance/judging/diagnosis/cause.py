"""The probable cause of a failure, where the pattern is a known one.

Each pattern is an experiment: what would the answer be if this mistake had been made? Where it
explains what was got, and the truth does not, it is named. A hint is a guess, and says so little
as it knows.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from conformance.judging.diagnosis import patterns


def probable_cause(trials: Iterable[Any], law: str, broken: BaseException | None) -> str:
    """One sentence, or nothing.

    Args:
        trials: where it failed first, then where else a mistake may show (further out, say).
        law: that failed.
        broken: what it raised, if it did.
    """
    for trial in trials:
        for pattern in patterns.of(trial, law, broken):
            try:
                hint = pattern()
            except (Exception, SystemExit):  # an experiment on what is broken may break too
                continue
            if hint:
                return hint
    return patterns.general(law)
