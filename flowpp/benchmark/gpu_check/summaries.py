"""Summaries for the report, from the files that commands have written."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path
from typing import Any

REPORTED = 40
"""Most failures of one stage in the report."""
LONGEST = 300


def tests(folder: Path) -> dict[str, Any]:
    """Summarize pytest's JUnit file."""
    cases = list(ElementTree.parse(folder / "junit.xml").getroot().iter("testcase"))
    outcomes = [_outcome(case) for case in cases]
    counts = Counter(outcome for outcome, _ in outcomes)
    failures = [
        f"{case.get('classname')}::{case.get('name')}: {message}"
        for case, (outcome, message) in zip(cases, outcomes, strict=True)
        if outcome == "failed"
    ]
    if not counts["passed"]:
        failures.append("at least one test must have passed")
    return {
        **{name: counts[name] for name in ("passed", "failed", "skipped")},
        "seconds": sum(float(case.get("time", 0)) for case in cases),
        "slowest": _slowest(cases),
        "skipped_because": dict(Counter(m for o, m in outcomes if o == "skipped").most_common(10)),
        "failures": failures[:REPORTED],
    }


def laws(folder: Path) -> dict[str, Any]:
    """Summarize the JSON of `python -m conformance`."""
    report = json.loads((folder / "laws.json").read_text(encoding="utf-8"))
    cells = report.pop("cells")
    failed = [cell for cell in cells if cell["status"] in ("fails", "imprecise")]
    return {
        **report,
        "counts": dict(Counter(cell["status"] for cell in cells)),
        "failures": [_law(cell) for cell in failed[:REPORTED]],
        "failed": len(failed),
    }


def benchmark(folder: Path) -> dict[str, Any]:
    """Return the benchmark's report, without the times of single calls."""
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    for record in report["results"]:
        record["library"].pop("all_seconds")
    return dict(report)


def evaluation(folder: Path) -> dict[str, Any]:
    """Return the parts of a receipt that the report keeps."""
    receipt = json.loads((folder / "receipt.json").read_text(encoding="utf-8"))
    kept = ("unit", "bounds", "dtype", "precision", "batch", "seconds")
    return {name: receipt[name] for name in kept} | {
        "images": receipt["data"]["count"],
        "data": receipt["data"]["name"],
        "step": receipt["weights"]["step"],
    }


def pictures(folder: Path) -> dict[str, Any]:
    """Name the stage's pictures."""
    found = sorted(folder.glob("*.png"))
    if not found:
        raise FileNotFoundError(f"no picture in {folder}")
    return {"files": [file.name for file in found]}


def _outcome(case: ElementTree.Element) -> tuple[str, str]:
    for tag, outcome in (("failure", "failed"), ("error", "failed"), ("skipped", "skipped")):
        if (element := case.find(tag)) is not None:
            return outcome, " ".join(str(element.get("message") or "").split())[:LONGEST]
    return "passed", ""


def _slowest(cases: list[ElementTree.Element]) -> list[list[Any]]:
    slowest = sorted(cases, key=lambda case: -float(case.get("time", 0)))[:5]
    return [[case.get("name"), float(case.get("time", 0))] for case in slowest]


def _law(cell: dict[str, Any]) -> str:
    words = [str(cell.get(name)) for name in ("case", "law", "dtype")]
    size = f"{cell.get('ulps')} ulps, {cell.get('allowed')} allowed"
    return f"{' '.join(words)}: {size}: {str(cell.get('message') or '')[:LONGEST]}"
