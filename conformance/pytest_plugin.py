"""The pytest plugin: options, the matrix of errors at the end of a run, and its exit status.

An installed package registers it, so `pytest --pyargs conformance --adapter my.module:Adapter`
works in any directory. Every option is `--conformance-NAME`. Runs that name the suite also have
`--NAME`, where no other plugin has that.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
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
    ("--tolerance", "CONFORMANCE_TOLERANCE", "0", "accepted error of imprecise results in ulps"),
    ("--timeout", "CONFORMANCE_TIMEOUT", "60", "time limit in seconds for each cell"),
    ("--html", "CONFORMANCE_HTML", "", "file for a report as HTML"),
)


RECORDER = "conformance_recorder"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options by their long names, which no other plugin uses."""
    for name, variable, default, text in OPTIONS:
        _add(
            parser,
            f"--conformance-{name[2:]}",
            name,
            f"{text} (default: {default or 'none'}; or {variable})",
        )


@pytest.hookimpl(trylast=True)
def pytest_load_initial_conftests(parser: pytest.Parser, args: list[str]) -> None:
    """Add the short names to a run that names the suite, after all other plugins' options."""
    if any("conformance" in re.split(r"[^\w-]", argument) for argument in args):
        add_short_names(parser)


def add_short_names(parser: pytest.Parser) -> None:
    """Add `--NAME` for each option whose short name is free."""
    for name, _, _, _ in OPTIONS:
        _add(parser, name, name, f"the same as --conformance-{name[2:]}")


def _add(parser: pytest.Parser, flag: str, name: str, text: str) -> None:
    """Add an option unless another plugin, or this one from the conftest, has added the flag."""
    group, stored = parser.getgroup("conformance"), f"conformance_{name[2:]}"
    with contextlib.suppress(ValueError, argparse.ArgumentError):
        group.addoption(flag, dest=stored, default=None, help=text)


def pytest_configure(config: pytest.Config) -> None:
    """Record the results of this run, including those from the workers of pytest-xdist."""
    if not config.pluginmanager.has_plugin(
        RECORDER
    ):  # both the conftest and the plugin are loaded
        config.pluginmanager.register(Recorder(config), RECORDER)


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


class Recorder:
    """The results of a run: its exit status and the matrix at its end."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._found: list[dict[str, Any]] = []

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when == "call":
            self._found += [
                value for name, value in report.user_properties if name == "conformance_result"
            ]

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Fail a run in which nothing fails and nothing holds, which pytest calls a success."""
        if self._found and exitstatus == pytest.ExitCode.OK and not self._proven():
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Print the matrix of `python -m conformance`, and write the HTML report."""
        if not self._found:
            return
        # Imported here, because pytest loads the plugin for every run, also of other tests.
        from conformance.reports.html import html_report
        from conformance.reports.terminal import show

        results, text = self._results(), io.StringIO()
        show(results, file=text)
        terminalreporter.section("conformance")
        terminalreporter.write(text.getvalue())
        file = chosen(self._config, "html")
        if file:
            names = ("adapter", "device", "seed", "examples")
            about = {name: chosen(self._config, name) for name in names}
            Path(file).write_text(html_report(results, about), encoding="utf-8")

    def _proven(self) -> bool:
        from conformance.reports.verdict import proven

        return proven(self._results())

    def _results(self) -> list[Any]:
        from conformance.cases import CASES
        from conformance.laws import LAWS
        from conformance.reports.result import from_json

        cases, laws = list(CASES), list(LAWS)
        return sorted(
            map(from_json, self._found),
            key=lambda result: (cases.index(result.case), laws.index(result.law)),
        )
