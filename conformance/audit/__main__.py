"""`python -m conformance.audit`: where an implementation's arithmetic holds and where it breaks.

Exit status: 0 good, 1 bad, 2 for what cannot be audited.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

# Thousands of small calls: more threads only wait for each other. Read when NumPy and torch load.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def main(arguments: list[str] | None = None) -> int:
    """Audit, write the page and the numbers, print the table; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        from conformance.audit import budget, run  # after parsing: torch takes seconds
        from conformance.audit.report import page, terminal  # after parsing: torch takes seconds
    except ModuleNotFoundError as error:
        return _refuse(f"needs the package {error.name}, which is not installed")
    size = budget.QUICK if options.quick else budget.FULL if options.full else budget.USUAL
    try:
        _usable(options.out)
        judged, shown = run.subjects(options.adapter)
        report = run.run(judged, shown, size, options.seed, options.run, _say)
    except (ValueError, FileNotFoundError) as error:
        return _refuse(str(error))
    _say("page")
    text = page.render(report)
    numbers = run.plain(report.numbers)
    (options.out / "index.html").write_text(text, encoding="utf-8")
    (options.out / "audit.json").write_text(
        json.dumps(numbers, indent=1, allow_nan=False) + "\n", encoding="utf-8"
    )
    _say("")
    terminal.show(report)
    print(f"The page: {options.out / 'index.html'}   all numbers: {options.out / 'audit.json'}")
    return 0 if report.good else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m conformance.audit", description=__doc__, allow_abbrev=False
    )
    parser.add_argument(
        "--out", type=Path, default=Path("audit"), metavar="DIR", help="where page and numbers go"
    )
    parser.add_argument(
        "--adapter", metavar="MODULE:CLASS",
        help="what is judged, e.g. conformance.audit.subjects.specimens:ClampedLogit "
        "(default: flowpp and the reference)",
    )  # fmt: skip
    parser.add_argument(
        "--run", type=Path, metavar="RUN",
        help="run directory of flowpp.train, for round trips and bits/dim (default: a small model "
        "is trained on digits)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of all random numbers")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--full", action="store_true", help="ten times the points: many minutes")
    size.add_argument("--quick", action="store_true", help="few points, no model: seconds")
    return parser


def _usable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"cannot write to {folder}: {error.strerror}") from error


def _say(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def _refuse(reason: str) -> int:
    print(f"conformance.audit: {reason}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
