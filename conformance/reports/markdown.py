"""Markdown report of what was proven, for a README: a badge and a table of the laws."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

from conformance.laws import LAWS
from conformance.reports.result import Result
from conformance.reports.verdict import JUDGED, count, of_reference, proven, verdict

SHIELD = "https://img.shields.io/badge/"


class ProofRow(NamedTuple):
    """The result of one law over all cases.

    Attributes:
        law: Name of the law.
        meaning: The statement that holds.
        cases: Number of cases for which it holds at every dtype that was judged.
        judged: Number of cases that were judged.
        numbers: Number of values compared.
        worst: Largest error as a fraction of its tolerance; None for a law without tolerances.
    """

    law: str
    meaning: str
    cases: int
    judged: int
    numbers: int
    worst: float | None


def proof_rows(results: Iterable[Result]) -> list[ProofRow]:
    """Return a row for each law that was judged, in the laws' order."""
    by_law: dict[str, list[Result]] = {}
    for result in results:
        if result.status in JUDGED and not of_reference(result):
            by_law.setdefault(result.law, []).append(result)
    return [_row(law, by_law[law]) for law in LAWS if law in by_law]


def seeds(about: Mapping[str, Any]) -> str:
    """Return the seeds of a run: `0`, or `0 ... 4`."""
    first, number = int(about["seed"]), int(about["examples"])
    return str(first) if number == 1 else f"{first} ... {first + number - 1}"


def badge(results: Iterable[Result]) -> str:
    """Return the Markdown line of a badge: cells that hold, of those judged."""
    results = list(results)
    found = count(results)
    text = f"{found['holds']} of {sum(found[status] for status in JUDGED)} laws x cases"
    color = "brightgreen" if proven(results) else "red"
    if color == "brightgreen" and (found["imprecise"] or found["expected"]):
        color = "yellow"
    label, message = (quote(part.replace("-", "--"), safe="") for part in ("conformance", text))
    return f"![conformance: {text}]({SHIELD}{label}-{message}-{color})"


def markdown(results: Iterable[Result], about: Mapping[str, Any]) -> str:
    """Return the badge, the verdict and the table of what was proven.

    Args:
        results: Results to report.
        about: Facts of the run: adapter, device, seed, examples.
    """
    results = list(results)
    dtypes = " and ".join(dict.fromkeys(result.dtype for result in results)) or "none"
    lines = [
        badge(results),
        "",
        f"`{about['adapter']}` on {about['device']}, {dtypes}, seeds {seeds(about)}: "
        f"{verdict(results)}.",
        "",
        "| law | statement | cases | numbers compared | largest error / tolerance |",
        "|---|---|---|---|---|",
    ]
    for row in proof_rows(results):
        worst = "exact" if row.worst is None else f"{row.worst:.2g}"
        lines.append(
            f"| {row.law} | {row.meaning} | {row.cases} of {row.judged} | {row.numbers:,} "
            f"| {worst} |"
        )
    return "\n".join(lines) + "\n"


def _row(law: str, results: list[Result]) -> ProofRow:
    bad = {result.case for result in results if result.status != "holds"}
    judged = {result.case for result in results}
    errors = [r.ulps / r.allowed for r in results if r.ulps is not None and r.allowed]
    return ProofRow(
        law,
        LAWS[law].meaning.replace("|", r"\|"),
        len(judged - bad),
        len(judged),
        sum(result.compared for result in results),
        max(errors) if errors else None,
    )
