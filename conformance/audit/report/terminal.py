"""The short table, and the verdicts in words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from conformance.audit.measures.measure import Measured
from conformance.audit.run import Report
from conformance.audit.verdicts import Verdict, number

HEADER = (
    "worst error in u", "y", "log dy/dx", "dy/dx", "not finite", "wrong from |x|", "targets missed"
)  # fmt: skip
MARKS = {"good": "ok  ", "bad": "BAD ", "note": "note"}


def show(report: Report) -> None:
    """Print it."""
    print()
    rows = [HEADER, *(row(m) for m in (*report.judged, *report.shown, *report.specimens))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for cells in rows:
        first, *rest = (c.ljust(w) if i == 0 else c.rjust(w)
                        for i, (c, w) in enumerate(zip(cells, widths, strict=True)))  # fmt: skip
        print("  ".join((first, *rest)).rstrip())
    print("u = eps * max(1, |truth|), on random mixtures; y wrong by more than 1 %\n")
    _verdicts((*report.verdicts, *report.audit))
    if report.numbers["model"].get("left_out"):
        print(f"note  left out: bits/dim and round trips: {report.numbers['model']['left_out']}")
    print(f"\n{conclusion(report)}")


def row(found: Measured) -> tuple[str, ...]:
    """One subject's row of the table."""
    if found.broken:
        return (str(found.subject), *["raised"] * 6)
    random = found.numbers["accuracy"]["random"]
    worst = [number(s["all"]["max"]) if s else "-" for s in (random[q] for q in ("y", "l", "y_x"))]
    return (
        str(found.subject), *worst, f"{random['y']['all']['non_finite_percent']:.0f} %",
        number(first_wrong(found, "y")), missed(found.numbers["inverse"]["hard"]),
    )  # fmt: skip


def first_wrong(found: Measured, quantity: str, meaning: str = "one percent") -> float | None:
    """The smallest |x| on either side at which it is wrong."""
    sides = found.numbers["first_wrong_x"][quantity]
    values = [s[meaning] for s in (sides or {}).values() if s[meaning] is not None]
    return min(values) if values else None


def missed(result: dict[str, Any]) -> str:
    """Share of targets."""
    return "raised" if "raised" in result else f"{result['missed_percent']:.0f} %"


def conclusion(report: Report) -> str:
    """One sentence."""
    bad = [v for v in report.verdicts if v.status == "bad"]
    blind = [v for v in report.audit if v.status == "bad"]
    names = ", ".join(dict.fromkeys(str(m.subject) for m in report.judged))
    if blind:
        return "The audit itself is not to be trusted: it did not catch a formula known to fail."
    if not bad:
        return f"Good: {names} keep every bound; every formula known to fail was caught."
    findings = ", ".join(dict.fromkeys(v.finding for v in bad))
    who = ", ".join(dict.fromkeys(v.who for v in bad))
    return f"Bad: {who}: {findings}."


def _verdicts(statements: Iterable[Verdict]) -> None:
    for v in statements:
        print(f"{MARKS[v.status]}  {v.who}: {v.finding}: {v.text}")
