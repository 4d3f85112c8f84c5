"""The pytest plugin: options, and the matrix of errors at the end of a run.

`conformance/conftest.py` loads it where pytest finds that file before it parses options: in a
directory that contains `conformance`. Elsewhere: `pytest -p conformance.pytest_plugin`.

Every option is `--conformance-NAME`, and also `--NAME` where no other plugin has that.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conformance.adapter import DEFAULT_ADAPTER

# Name, environment variable, default, help.
OPTIONS = (
    ("--adapter", "CONFORMANCE_ADAPTER", DEFAULT_ADAPTER, "adapter, module:Class"),
    ("--dtype", "CONFORMANCE_DTYPE", "float64 float32", "dtypes, separated by spaces"),
    ("--device", "CONFORMANCE_DEVICE", "cpu", "device name passed to the adapter"),
    ("--cases", "CONFORMANCE_CASES", "*", "names or patterns, separated by spaces"),
    ("--bijectors", "CONFORMANCE_BIJECTORS", "*", "classes, separated by spaces"),
    ("--laws", "CONFORMANCE_LAWS", "*", "names or patterns, separated by spaces"),
    ("--seed", "CONFORMANCE_SEED", "0", "seed of specifications and inputs"),
    ("--examples", "CONFORMANCE_EXAMPLES", "1", "draws of specification and inputs per case"),
    ("--xfails", "CONFORMANCE_XFAILS", "", "file of known failures"),
    ("--timeout", "CONFORMANCE_TIMEOUT", "60", "time limit in seconds for each cell"),
    ("--html", "CONFORMANCE_HTML", "", "file for a report as HTML"),
)


OTHERS = {"--timeout": "pytest_timeout", "--html": "pytest_html"}
"""Modules of plugins with options of the same name. Pytest loads installed plugins after those
given by `-p`, and theirs would fail if the name were taken."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options, by the short names that no other plugin uses."""
    for name, variable, default, text in OPTIONS:
        _add(
            parser,
            f"--conformance-{name[2:]}",
            name,
            f"{text} (default: {default or 'none'}; or {variable})",
        )
        if name not in OTHERS or importlib.util.find_spec(OTHERS[name]) is None:
            _add(parser, name, name, f"the same as --conformance-{name[2:]}")


def _add(parser: pytest.Parser, flag: str, name: str, text: str) -> None:
    """Add an option unless another plugin, or this one from the conftest, has added the flag."""
    group, stored = parser.getgroup("conformance"), f"conformance_{name[2:]}"
    with contextlib.suppress(ValueError, argparse.ArgumentError):
        group.addoption(flag, dest=stored, default=None, help=text)


def chosen(config: pytest.Config, name: str) -> str:
    """Return an option from the command line, else from the environment, else its default."""
    for option, variable, default, _ in OPTIONS:
        if option == f"--{name}":
            given = config.getoption(f"conformance_{name}", None)
            return given if given is not None else os.environ.get(variable, default)
    raise KeyError(name)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Use one thread of torch: for thousands of small calls, more are five times slower."""
    torch = sys.modules.get("torch")  # already imported if the adapter uses it
    if torch is None:
        yield
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print the matrix of `python -m conformance` from the recorded results."""
    if getattr(config, "conformance_shown", False):
        return  # both the conftest and the plugin are loaded
    # Read from the reports, which also come from the workers of pytest-xdist.
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
    _show(terminalreporter, config, found)


def _show(terminalreporter: Any, config: pytest.Config, found: list[dict[str, Any]]) -> None:
    # Imported here, because pytest loads the plugin for every run, also of other tests.
    from conformance.cases import CASES
    from conformance.laws import LAWS
    from conformance.reports.html import html_report
    from conformance.reports.result import from_json
    from conformance.reports.terminal import show

    cases, laws = list(CASES), list(LAWS)
    results = sorted(
        map(from_json, found),
        key=lambda result: (cases.index(result.case), laws.index(result.law)),
    )
    text = io.StringIO()
    show(results, file=text)
    terminalreporter.section("conformance")
    terminalreporter.write(text.getvalue())
    file = chosen(config, "html")
    if file:
        about = {name: chosen(config, name) for name in ("adapter", "device", "seed", "examples")}
        Path(file).write_text(html_report(results, about), encoding="utf-8")
