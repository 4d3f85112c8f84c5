"""Terminal output of the audit: a short table, and the verdicts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from conformance.audit.measures.measure import Measurement
from conformance.audit.run import Report
from conformance.audit.verdicts import Verdict, number

HEADER = (
    "largest error in u", "y", "log dy/dx", "dy/dx", "non-finite", "wrong from |x|",
    "targets missed",
)  # fmt: skip
MARKS = {"good": "ok  ", "bad": "BAD ", "note": "note"}


def show(report: Report) -> None:
    """Print the table, the verdicts and the conclusion."""
    print()
    rows = [HEADER, *(row(m) for m in (*report.judged, *report.shown, *report.specimens))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for cells in rows:
        first, *rest = (c.ljust(w) if i == 0 else c.rjust(w)
                        for i, (c, w) in enumerate(zip(cells, widths, strict=True)))  # fmt: skip
        print("  ".join((first, *rest)).rstrip())
    print("On random mixtures; u = eps * max(1, |exact|); wrong: y off by more than 1 %\n")
    _verdicts((*report.verdicts, *report.self_check))
    if report.numbers["model"].get("left_out"):
        print(f"note  not run: bits/dim and round trips: {report.numbers['model']['left_out']}")
    print(f"\n{conclusion(report)}")


def row(found: Measurement) -> tuple[str, ...]:
    """Return the table's row for one subject."""
    if found.broken:
        return (str(found.subject), *["raised"] * 6)
    random = found.numbers["accuracy"]["random"]
    errors = [random[quantity] for quantity in ("y", "l", "y_x")]
    largest = [number(e["all"]["max"]) if e else "-" for e in errors]
    return (
        str(found.subject), *largest, f"{random['y']['all']['non_finite_percent']:.0f} %",
        number(first_wrong(found, "y")), missed(found.numbers["inverse"]["hard"]),
    )  # fmt: skip


def first_wrong(found: Measurement, quantity: str, meaning: str = "one percent") -> float | None:
    """Return the smallest |x| on either side at which a quantity is wrong."""
    sides = found.numbers["first_wrong_x"][quantity]
    values = [s[meaning] for s in (sides or {}).values() if s[meaning] is not None]
    return min(values) if values else None


def missed(result: dict[str, Any]) -> str:
    """Return the share of missed targets."""
    return "raised" if "raised" in result else f"{result['missed_percent']:.0f} %"


def conclusion(report: Report) -> str:
    """Return the conclusion of the audit in one sentence."""
    bad = [v for v in report.verdicts if v.status == "bad"]
    blind = [v for v in report.self_check if v.status == "bad"]
    names = ", ".join(dict.fromkeys(str(m.subject) for m in report.judged))
    if blind:
        return "The audit cannot be trusted: it did not catch every formula known to fail."
    if not bad:
        return f"Good: {names} keep every bound, and every formula known to fail was caught."
    findings = ", ".join(dict.fromkeys(v.finding for v in bad))
    who = ", ".join(dict.fromkeys(v.who for v in bad))
    return f"Bad: {who}: {findings}."


def _verdicts(statements: Iterable[Verdict]) -> None:
    for v in statements:
        print(f"{MARKS[v.status]}  {v.who}: {v.finding}: {v.text}")
