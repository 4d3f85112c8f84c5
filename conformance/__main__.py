"""`python -m conformance`: an adapter through all laws; exit status 0 only if it is proven.

0: something holds and nothing fails. 1: something fails, or nothing could be judged at all. 2: the
command line is wrong, or asks for a device or dtype that the adapter refuses.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

# Thousands of small calls: more threads only wait for each other. Read when NumPy and torch load.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from conformance.judging import xfails  # noqa: E402
from conformance.judging.diagnosis.reproducer import DEFAULT  # noqa: E402
from conformance.judging.options import Options  # noqa: E402
from conformance.judging.plan import plan  # noqa: E402
from conformance.judging.result import Result, as_json  # noqa: E402
from conformance.judging.worker_pool import Plan, judge_in_process, judge_in_workers  # noqa: E402
from conformance.reports.html import html_report  # noqa: E402
from conformance.reports.junit import junit  # noqa: E402
from conformance.reports.terminal import proven, show  # noqa: E402

from .adapter import DTYPES  # noqa: E402
from .cases import CASES  # noqa: E402
from .laws import LAWS  # noqa: E402

MOST_JOBS = 4
"""By default: each worker is an interpreter with torch in it."""


def main(arguments: list[str] | None = None) -> int:
    """Run, print the matrix, write the reports, and return the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.list:
        for law in LAWS.values():
            print(f"law   {law.name:22} {law.meaning}")
        for name in CASES:
            print(f"case  {name}")
        return 0
    start = time.perf_counter()
    try:
        chosen = list(plan(options.cases, options.laws, options.dtype, options.bijectors))
        if not chosen:
            raise ValueError("none of these laws speaks of any of these cases")
        known = xfails.read(options.xfails, cases=CASES, laws=LAWS) if options.xfails else []
        for file in (options.html, options.json, options.junit):
            if file and not Path(file).resolve().parent.is_dir():
                raise ValueError(f"no directory for {file}")
        cells = [xfails.apply(cell, known) for cell in _judged(options, chosen)]
    except ValueError as error:
        parser.error(str(error))
    show(cells)
    about = {
        "adapter": options.adapter,
        "device": options.device,
        "seed": options.seed,
        "examples": options.examples,
        "seconds": round(time.perf_counter() - start, 2),
    }
    if options.json:
        text = json.dumps({**about, "cells": as_json(cells)}, indent=1, allow_nan=False)
        Path(options.json).write_text(text)
    if options.html:
        Path(options.html).write_text(html_report(cells, about), encoding="utf-8")
    if options.junit:
        Path(options.junit).write_text(junit(cells, name=options.adapter), encoding="utf-8")
    return 0 if proven(cells) else 1


def _judged(options: argparse.Namespace, chosen: Plan) -> Iterator[Result]:
    """The cells, with a line of progress on a terminal."""
    task = Options(
        options.adapter,
        options.seed,
        options.device,
        options.examples,
        options.timeout if options.timeout > 0 else None,
        list(dict.fromkeys(dtype for _, _, dtype in chosen)),
    )
    if options.in_process:
        judged = judge_in_process(task, chosen)
    else:
        judged = judge_in_workers(task, chosen, options.jobs)
    for i, (case, law, dtype) in enumerate(chosen, start=1):
        if sys.stderr.isatty():
            line = f"{i}/{len(chosen)} {case.name} {dtype} {law.name}"
            print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)
        yield next(judged)
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m conformance",
        description=__doc__,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--adapter",
        default=DEFAULT,
        metavar="MODULE:CLASS",
        help="what is judged (default: flowpp)",
    )
    add("--dtype", nargs="+", default=DTYPES, metavar="DTYPE", help="float64, float32 or both")
    add("--device", default="cpu", help="handed to the adapter")
    add("--cases", nargs="+", default=["*"], metavar="NAME", help="names or patterns, coupling/*")
    add(
        "--bijectors",
        nargs="+",
        default=["*"],
        metavar="CLASS",
        help="classes whose cases are judged: Coupling ActNorm",
    )
    add("--laws", nargs="+", default=["*"], metavar="NAME", help="names or patterns")
    add("--seed", type=int, default=0, help="of specs and inputs")
    add(
        "--examples",
        type=_positive,
        default=1,
        metavar="N",
        help="draws of spec and inputs for each case, from the seeds that follow (default 1)",
    )
    add(
        "--xfails",
        metavar="FILE",
        help="known failures with reasons: TOML, or lines `case, law, dtype, reason`; one that "
        "holds fails",
    )
    add(
        "--timeout",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="for each cell (default 60; 0 for none)",
    )
    add(
        "--jobs",
        type=_positive,
        default=min(os.cpu_count() or 1, MOST_JOBS),
        metavar="N",
        help="workers that share the cells; the report is the same for any number "
        "(default: %(default)s, as many as processors and not more than 4)",
    )
    add(
        "--in-process",
        action="store_true",
        help="judge in this process, for debuggers: what hangs in C or crashes ends the run",
    )
    add("--list", action="store_true", help="show cases and laws, and stop")
    add("--html", metavar="FILE", help="a report to look at, in one file")
    add("--json", metavar="FILE", help="every cell, for programs")
    add("--junit", metavar="FILE", help="JUnit XML, for continuous integration")
    return parser


def _positive(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"a number from 1 on is wanted, got {text}")
    return number


if __name__ == "__main__":
    sys.exit(main())
