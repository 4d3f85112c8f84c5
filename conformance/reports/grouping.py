"""Failures with one cause, in groups: the same mistake fails at both dtypes and in many cases."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from conformance.reports.result import Result

RAISED = re.compile(r"\b([A-Z]\w*: .*\([^()]+:\d+\))$")
"""An exception at the end of a message: its type, message, file and line."""


class Cause(NamedTuple):
    """A probable cause, or an exception, with the failures that it has.

    Attributes:
        kind: "probable cause" or "exception".
        text: Hint, or type, message and place of the exception.
        results: The failures.
    """

    kind: str
    text: str
    results: list[Result]

    @property
    def where(self) -> str:
        """Classes with the laws that fail: `squeeze: forward, inverse`."""
        laws: dict[str, dict[str, None]] = {}
        for result in self.results:
            laws.setdefault(result.case.split("/")[0], {})[result.law] = None
        return "; ".join(f"{name}: {', '.join(found)}" for name, found in laws.items())


def without_numbers(text: str) -> str:
    """Return a text with its numbers replaced: they differ from example to example."""
    return re.sub(r"-?\d[\d.e+-]*", "#", text)


def groups(results: Iterable[Result]) -> list[list[Result]]:
    """Return failures of one law with the same cause together, in the order of the first."""
    found: dict[tuple[str, ...], list[Result]] = {}
    for result in results:
        cause = result.hint or raised(result)
        # Without a cause, only both dtypes of one case are the same failure.
        text = without_numbers(cause) if cause else result.case
        found.setdefault((result.status, result.law, text, result.traceback), []).append(result)
    return list(found.values())


def causes(results: Iterable[Result]) -> list[Cause]:
    """Return the causes of failures, that of most failures first."""
    found: dict[str, Cause] = {}
    for result in results:
        text = result.hint or raised(result)
        if result.status == "fails" and text:
            kind = "probable cause" if result.hint else "exception"
            cause = found.setdefault(without_numbers(text), Cause(kind, text, []))
            cause.results.append(result)
    return sorted(found.values(), key=lambda cause: -len(cause.results))


def raised(result: Result) -> str:
    """Return type, message and place of the exception that a failure is; "" for any other."""
    match = RAISED.search(result.message)
    return match[1] if match else ""
