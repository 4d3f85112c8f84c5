"""The verdict as JUnit XML, which continuous integration shows."""

from __future__ import annotations

import re
from collections.abc import Iterable
from xml.etree import ElementTree

from conformance.judging.result import Result

FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f]")


def junit(cells: Iterable[Result], *, name: str) -> str:
    """One test case a cell; what is expected, unsupported or left out is skipped, with its reason.

    Args:
        cells: what was judged.
        name: of the suite, the adapter's.
    """
    cells = list(cells)
    suite = ElementTree.Element(
        "testsuite",
        name=_clean(name),
        tests=str(len(cells)),
        failures=str(sum(cell.status == "fails" for cell in cells)),
        errors="0",
        skipped=str(sum(cell.status not in ("holds", "fails") for cell in cells)),
        time=f"{sum(cell.seconds for cell in cells):.3f}",
    )
    for cell in cells:
        test = ElementTree.SubElement(
            suite,
            "testcase",
            classname=f"conformance.{cell.case}.{cell.dtype}",
            name=cell.law,
            time=f"{cell.seconds:.3f}",
        )
        if cell.status == "fails":
            failure = ElementTree.SubElement(test, "failure", message=_clean(cell.message))
            failure.text = _clean("\n".join(filter(None, (cell.hint, cell.reproducer))))
        elif cell.status != "holds":
            kind = f"{cell.status}: {cell.message}"
            ElementTree.SubElement(test, "skipped", message=_clean(kind))
    suites = ElementTree.Element("testsuites")
    suites.append(suite)
    ElementTree.indent(suites)
    return ElementTree.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def _clean(text: str) -> str:
    """Without the characters that XML cannot hold."""
    return FORBIDDEN.sub("?", text)
