"""Prints the matrix of errors at the end of a pytest run."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from .cases import CASES
from .laws import LAWS
from .report import show
from .runner import Cell


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Thousands of small calls: more threads only wait for each other (five times as long)."""
    torch = sys.modules.get("torch")  # whatever the adapter needs has been imported by now
    if torch is None:
        yield
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The same matrix as `python -m conformance` prints, from what the tests recorded."""
    # From the reports, not from memory, so that it works with distributed workers too.
    cells = [
        Cell(**value)
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "when", None) == "call"
        for name, value in report.user_properties
        if name == "conformance_cell"
    ]
    if not cells:
        return
    text = io.StringIO()
    show(sorted(cells, key=_place), file=text)
    terminalreporter.section("conformance")
    terminalreporter.write(text.getvalue())


def _place(cell: Cell) -> tuple[int, int]:
    return list(CASES).index(cell.case), list(LAWS).index(cell.law)
