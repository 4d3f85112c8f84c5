"""The report as one HTML file, from the template `report.html.jinja`."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from conformance.laws import LAWS, Law
from conformance.reports import pages
from conformance.reports.grouping import causes
from conformance.reports.markdown import badge, proof_rows, seeds
from conformance.reports.result import STATUSES, Result
from conformance.reports.terminal import FAMILIES, VIOLATION, text_of
from conformance.reports.verdict import JUDGED, count, proven, verdict

NAMES = {
    "holds": "hold",
    "imprecise": "imprecise",
    "fails": "fail",
    "expected": "fail as expected",
    "unsupported": "not supported",
    "left out": "left out",
    "error": "error in the law",
}

MAX_EXPANDED = 12
"""With more failures than this, each is collapsed until its cell is clicked."""

MAX_CAUSES = 8
MAX_PLACES = 40


class Matrix(NamedTuple):
    """One table of the report, cases against laws.

    Attributes:
        title: Dtype and family of laws.
        laws: One per column.
        rows: Case and its results; None where the law was not judged for the case.
    """

    title: str
    laws: list[Law]
    rows: list[tuple[str, list[Result | None]]]


def html_report(results: Iterable[Result], about: Mapping[str, Any]) -> str:
    """Return the whole page as one self-contained HTML document.

    Args:
        results: Results to report.
        about: Facts of the run: adapter, device, seed, examples, seconds.
    """
    results = list(results)
    shown = ("error", "fails", "imprecise")
    failing = [result for result in results if result.status in shown]
    failing.sort(key=lambda result: shown.index(result.status))
    found = causes(failing)[:MAX_CAUSES]
    return pages.render(
        "conformance.reports",
        "report.html.jinja",
        adapter=about["adapter"],
        good=proven(results),
        verdict=_capitalized(verdict(results)),
        names=NAMES,
        violation=VIOLATION,
        counts=count(results),
        statuses=STATUSES,
        facts=_facts(about),
        causes=[(f"{cause.text} ({cause.where})", len(cause.results)) for cause in found],
        proof=proof_rows(results),
        seeds=seeds(about),
        badge=badge(results),
        matrices=_matrices(results),
        failures=[(result, _details(result)) for result in failing],
        expanded=len(failing) <= MAX_EXPANDED,
        reasons={s: _reasons(results, s) for s in ("expected", "unsupported", "left out")},
        laws=[LAWS[law] for law in LAWS if any(result.law == law for result in results)],
        anchor=_anchor,
        text_of=lambda result: text_of(result).rstrip("!*~"),
        limit_of=_limit,
        tooltip=_tooltip,
    )


def _capitalized(text: str) -> str:
    return text[:1].upper() + text[1:]


def _facts(about: Mapping[str, Any]) -> dict[str, str]:
    facts = {
        **about,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "written": time.strftime("%Y-%m-%d %H:%M"),
    }
    if "seconds" in facts:
        facts["seconds"] = f"{facts['seconds']:.0f}"
    return {name: str(value) for name, value in facts.items()}


def _matrices(results: list[Result]) -> Iterable[Matrix]:
    for family, text in FAMILIES.items():
        for dtype in dict.fromkeys(result.dtype for result in results):
            members = [c for c in results if c.dtype == dtype and LAWS[c.law].family == family]
            if any(result.status in (*JUDGED, "error") for result in members):
                yield _matrix(f"{dtype}{text}", members)


def _matrix(title: str, results: list[Result]) -> Matrix:
    laws = [law for law in LAWS if any(result.law == law for result in results)]
    by_case: dict[str, dict[str, Result]] = {}
    for result in results:
        by_case.setdefault(result.case, {})[result.law] = result
    rows = [(case, [row.get(law) for law in laws]) for case, row in by_case.items()]
    return Matrix(title, [LAWS[law] for law in laws], rows)


def _limit(result: Result) -> str:
    """Return the tolerance of a cell that was measured; empty for any other."""
    if result.status not in JUDGED or result.ulps is None or not result.allowed:
        return ""
    return f"{result.allowed:.2g}".replace("e+0", "e")


def _tooltip(result: Result) -> str:
    size = ""
    if result.ulps is not None:
        size = (
            f"{result.ulps:.3g} ulps, {result.wrong_bits:.1f} bits wrong, "
            f"{result.allowed:.3g} allowed"
        )
    return "\n".join(filter(None, (f"{result.case} | {result.law}", size, result.message)))


def _details(result: Result) -> dict[str, str]:
    """Return everything known about a failure, by label."""
    rows = {"probable cause": result.hint} if result.hint else {}
    rows["failure"] = result.message
    if result.traceback:
        rows["traceback"] = result.traceback
    if result.ulps is not None:
        rows["error"] = (
            f"{result.ulps:.4g} ulps ({result.wrong_bits:.1f} bits wrong), "
            f"{result.allowed:.4g} allowed"
        )
    labels = {"got": "got", "want": "expected", "one_ulp": "one ulp", "index": "at index"}
    for name, value in result.point.items():
        if name == "parameters":
            continue
        if name != "what":
            rows[labels.get(name, name)] = f"{value:.17g}" if isinstance(value, float) else value
    parameters = result.point.get("parameters", {})
    return rows | {f"parameter {name}": value for name, value in parameters.items()}


def _reasons(results: list[Result], status: str) -> list[tuple[str, int, str]]:
    """Return reason, number of results and their names, the most frequent reason first."""
    places: dict[str, list[str]] = {}
    for result in results:
        if result.status == status:
            places.setdefault(result.message, []).append(f"{result.case} {result.law}")
    found = [(why, len(names), ", ".join(names[:MAX_PLACES])) for why, names in places.items()]
    return sorted(found, key=lambda reason: -reason[1])


def _anchor(result: Result) -> str:
    return f"{result.case}-{result.law}-{result.dtype}"
