"""The verdict on the results of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from conformance.laws import LAWS
from conformance.reports.result import Result

JUDGED = ("holds", "imprecise", "fails", "expected")
BAD = {"fails": "fail", "imprecise": "imprecise", "expected": "fail as expected"}
NOT_JUDGED = {"unsupported": "not supported", "left out": "left out"}
ERRORS = "with an error in the law itself"


def of_reference(result: Result) -> bool:
    """Return whether a result is about the reference, and so says nothing about an adapter."""
    law = LAWS.get(result.law)
    return law is not None and law.subject == "reference"


def count(results: Iterable[Result]) -> Counter[str]:
    """Return the number of results by status; "reference" are those that hold about it."""
    return Counter(
        "reference" if result.status == "holds" and of_reference(result) else result.status
        for result in results
    )


def proven(results: Iterable[Result]) -> bool:
    """Return whether something holds, nothing fails, and what is imprecise is accepted.

    Nothing is proven where a law itself raised an exception. A law about the reference counts only
    if it fails; known failures prove nothing.
    """
    results = list(results)
    found = count(results)
    refused = any(r.status == "imprecise" and not r.accepted for r in results)
    return bool(found["holds"]) and not (found["fails"] or found["error"] or refused)


def verdict(results: Iterable[Result]) -> str:
    """Return the headline: what holds or fails, and how much was not judged."""
    results = list(results)
    found = count(results)
    judged = sum(found[status] for status in JUDGED)
    bad = ", ".join(f"{found[status]} {text}" for status, text in BAD.items() if found[status])
    if bad:
        accepted = " (accepted)" if found["imprecise"] and proven(results) else ""
        head = f"{found['holds']} of {judged} cells hold, {bad}{accepted}"
    else:
        head = f"all cells hold ({judged})"
    if not found["holds"]:
        head = f"nothing was proven: {bad or 'no case could be judged'}"
    errors = [f"{found['error']} {ERRORS}"] if found["error"] else []
    rest = (f"{found[status]} {text}" for status, text in NOT_JUDGED.items() if found[status])
    return "; ".join([*errors, head, *rest])
