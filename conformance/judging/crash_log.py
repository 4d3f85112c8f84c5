"""Cases that timed out or crashed, and the cells that are therefore not tried."""

from __future__ import annotations

from conformance.judging.plan import Planned
from conformance.reports.result import Result

MAX_LOST_CASES = 3
"""If the first cases are all lost, in this number, the remaining ones are not tried."""
NO_ANSWER = "no answer within"
PROCESS_ENDED = "the process ended"


def is_lost(result: Result) -> bool:
    """Return whether the implementation timed out or ended its process."""
    return result.status == "fails" and result.message.startswith((NO_ANSWER, PROCESS_ENDED))


class CrashLog:
    """Record of lost cases: a lost case is not tried under further laws."""

    def __init__(self) -> None:
        self._lost: dict[tuple[str, str], str] = {}
        self._answered = False

    def record(self, result: Result) -> None:
        """Add the result of a cell, in the plan's order."""
        key = (result.case, result.dtype)
        if is_lost(result):
            self._lost.setdefault(key, result.law)
        elif key not in self._lost and result.status in ("holds", "imprecise", "fails"):
            self._answered = self._answered or len(self._lost) < MAX_LOST_CASES

    def not_tried(self, planned: Planned) -> Result | None:
        """Return the result of a cell that is not tried; None for one to be judged."""
        case, law, dtype = planned
        if (case.name, dtype) in self._lost:
            reason = f"not tried: it was lost under {self._lost[case.name, dtype]}"
        elif len(self._lost) >= MAX_LOST_CASES and not self._answered:
            names = ", ".join(name for name, _ in list(self._lost)[:MAX_LOST_CASES])
            reason = f"not tried: the first {MAX_LOST_CASES} cases were all lost ({names})"
        else:
            return None
        return Result(case.name, law.name, dtype, "fails", message=reason)
