"""What pytest asks of the suite: options, and the matrix at the end of a run.

`conformance/conftest.py` brings it in where pytest finds that file before it reads options: in a
directory that holds `conformance`. Anywhere else: `pytest -p conformance.pytest_plugin`.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest

# Name, environment variable, default, help.
OPTIONS = (
    (
        "--adapter",
        "CONFORMANCE_ADAPTER",
        "conformance.adapters.flowpp:FlowppAdapter",
        "module:Class, what is judged",
    ),
    ("--dtype", "CONFORMANCE_DTYPE", "float64 float32", "dtypes, between spaces"),
    ("--device", "CONFORMANCE_DEVICE", "cpu", "handed to the adapter"),
    ("--cases", "CONFORMANCE_CASES", "*", "names or patterns, between spaces"),
    ("--bijectors", "CONFORMANCE_BIJECTORS", "*", "classes, between spaces"),
    ("--laws", "CONFORMANCE_LAWS", "*", "names or patterns, between spaces"),
    ("--seed", "CONFORMANCE_SEED", "0", "of specs and inputs"),
    ("--examples", "CONFORMANCE_EXAMPLES", "1", "draws of spec and inputs for each case"),
    ("--xfails", "CONFORMANCE_XFAILS", "", "file of known failures"),
    ("--timeout", "CONFORMANCE_TIMEOUT", "60", "seconds for each cell"),
    ("--html", "CONFORMANCE_HTML", "", "write the report there"),
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """The command line's options; a name that another plugin has taken is left to it."""
    group = parser.getgroup("conformance")
    for name, variable, default, text in OPTIONS:
        try:
            group.addoption(
                name,
                dest=f"conformance_{name[2:]}",
                default=None,
                help=f"{text} (default: {default or 'none'}; or {variable})",
            )
        except (ValueError, argparse.ArgumentError):
            continue


def chosen(config: pytest.Config, name: str) -> str:
    """The value of an option: from the command line, else the environment, else the default."""
    for option, variable, default, _ in OPTIONS:
        if option == f"--{name}":
            given = config.getoption(f"conformance_{name}", None)
            return given if given is not None else os.environ.get(variable, default)
    raise KeyError(name)


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


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """The same matrix as `python -m conformance` prints, from what the tests recorded."""
    if getattr(config, "conformance_shown", False):
        return  # both the conftest and the plugin are there
    # From the reports, not from memory, so that it works with distributed workers too.
    found = [
        value
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "when", None) == "call"
        for name, value in report.user_properties
        if name == "conformance_result"
    ]
    if not found:
        return
    config.conformance_shown = True  # type: ignore[attr-defined]
    from pathlib import Path

    from conformance.judging.result import from_json
    from conformance.reports.html import html_report
    from conformance.reports.terminal import show

    from .cases import CASES
    from .laws import LAWS

    cases, laws = list(CASES), list(LAWS)
    cells = sorted(
        map(from_json, found), key=lambda cell: (cases.index(cell.case), laws.index(cell.law))
    )
    text = io.StringIO()
    show(cells, file=text)
    terminalreporter.section("conformance")
    terminalreporter.write(text.getvalue())
    file = chosen(config, "html")
    if file:
        about = {name: chosen(config, name) for name in ("adapter", "device", "seed", "examples")}
        Path(file).write_text(html_report(cells, about), encoding="utf-8")
