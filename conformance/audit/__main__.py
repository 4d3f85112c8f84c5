"""Audit the arithmetic of logistic mixtures against fifty-digit results.

Writes DIR/index.html and DIR/audit.json. Exit status: 0 if every bound is kept, 1 if not, 2 on
invalid arguments.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from conformance.judging.arguments import Parser
from conformance.reports.standard_output import exit_on_broken_pipe

# The audit makes thousands of small calls, for which more threads are slower. NumPy and torch read
# this when they are imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def main(arguments: list[str] | None = None) -> int:
    """Run the audit, write its page and numbers, print a table; return the exit status."""
    options = _parser().parse_args(arguments)
    try:
        # Imported after parsing, because torch takes seconds to load.
        from conformance.audit import budget, run
        from conformance.audit.report import page, terminal
        from conformance.reports.json import write_json
    except ModuleNotFoundError as error:
        return _error(f"the audit needs the package {error.name}, which is not installed")
    size = budget.QUICK if options.quick else budget.FULL if options.full else budget.USUAL
    try:
        _make_folder(options.out)
        judged, shown = run.subjects(options.adapter)
        report = run.run(judged, shown, size, options.seed, options.run, _progress)
    except (ValueError, FileNotFoundError) as error:
        return _error(str(error))
    _progress("page")
    text = page.render(report)
    (options.out / "index.html").write_text(text, encoding="utf-8")
    write_json(options.out / "audit.json", report.numbers)
    _progress("")
    terminal.show(report)
    print(f"Page: {options.out / 'index.html'}   numbers: {options.out / 'audit.json'}")
    return 0 if report.good else 1


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m conformance.audit",
        description=__doc__,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("audit"),
        metavar="DIR",
        help="output folder, created if missing (default: audit)",
    )
    parser.add_argument(
        "--adapter", metavar="MODULE:CLASS",
        help="adapter of the implementation to audit, such as "
        "conformance.audit.subjects.specimens:ClampedLogit (default: flowpp and the reference)",
    )  # fmt: skip
    parser.add_argument(
        "--run", type=Path, metavar="RUN",
        help="run directory of flowpp.train, whose model is used for round trips and bits/dim "
        "(default: a small model trained on digits; none with --quick)",
    )  # fmt: skip
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of all random numbers (default: 0)"
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--full", action="store_true", help="ten times the points; takes minutes")
    size.add_argument("--quick", action="store_true", help="few points, no model; takes seconds")
    return parser


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"cannot write to {folder}: {error.strerror}") from error


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def _error(reason: str) -> int:
    print(f"conformance.audit: {reason}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    with exit_on_broken_pipe():
        sys.exit(main())
