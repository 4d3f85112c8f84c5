"""The report as JUnit XML, for continuous integration."""

from __future__ import annotations

import re
from collections.abc import Iterable
from xml.etree import ElementTree

from conformance.reports.result import Result
from conformance.reports.verdict import proven, verdict

SKIPPED = ("expected", "unsupported", "left out")
FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f]")


def junit(results: Iterable[Result], *, name: str) -> str:
    """Return one test case per result; one that was not judged is skipped.

    A run in which nothing fails and nothing holds has one more, which fails: `conformance.proven`.

    Args:
        results: Results to report.
        name: Name of the suite: the adapter.
    """
    results = list(results)
    reported = any(_fails(result) or result.status == "error" for result in results)
    unproven = not proven(results) and not reported
    suite = ElementTree.Element(
        "testsuite",
        name=_clean(name),
        tests=str(len(results) + unproven),
        failures=str(sum(map(_fails, results)) + unproven),
        errors=str(sum(result.status == "error" for result in results)),
        skipped=str(sum(result.status in SKIPPED for result in results)),
        time=f"{sum(result.seconds for result in results):.3f}",
    )
    for result in results:
        test = ElementTree.SubElement(
            suite,
            "testcase",
            classname=f"conformance.{result.case}.{result.dtype}",
            name=result.law,
            time=f"{result.seconds:.3f}",
        )
        if _fails(result):
            failure = ElementTree.SubElement(
                test, "failure", type=result.status, message=_clean(result.message)
            )
            failure.text = _clean("\n".join(filter(None, (result.hint, result.reproducer))))
        elif result.status == "error":
            error = ElementTree.SubElement(test, "error", message=_clean(result.message))
            error.text = _clean(f"{result.traceback}\n{result.reproducer}")
        elif result.status in SKIPPED:
            kind = f"{result.status}: {result.message}"
            ElementTree.SubElement(test, "skipped", message=_clean(kind))
    if unproven:
        test = ElementTree.SubElement(suite, "testcase", classname="conformance", name="proven")
        ElementTree.SubElement(test, "failure", message=_clean(verdict(results)))
    suites = ElementTree.Element("testsuites")
    suites.append(suite)
    ElementTree.indent(suites)
    return ElementTree.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def _fails(result: Result) -> bool:
    return result.status == "fails" or (result.status == "imprecise" and not result.accepted)


def _clean(text: str) -> str:
    """Replace control characters, which XML forbids and a message may contain."""
    return FORBIDDEN.sub("?", text)
