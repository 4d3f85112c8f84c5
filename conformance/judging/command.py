"""Judge an implementation of the bijectors by all laws, and print the matrix of errors.

Exit status: 0 if something holds and nothing fails; 1 if something fails or is imprecise (unless
--tolerance allows it), or nothing was proven; 2 if the command line is wrong, the adapter refuses
the device or every dtype, or a law itself raised an exception.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from conformance.adapter import DEFAULT_ADAPTER, DTYPES
from conformance.cases import CASES
from conformance.judging import listing, xfails
from conformance.judging.arguments import Parser
from conformance.judging.options import Options
from conformance.judging.plan import Plan, plan
from conformance.judging.precision import accept
from conformance.judging.run import judge_in_process, judge_in_workers
from conformance.laws import LAWS
from conformance.reports.html import html_report
from conformance.reports.json import write_json
from conformance.reports.junit import junit
from conformance.reports.markdown import markdown
from conformance.reports.result import Result, as_json
from conformance.reports.terminal import show
from conformance.reports.verdict import count, proven, verdict

MAX_DEFAULT_JOBS = 4
"""Maximum number of workers by default: each imports torch."""


def main(arguments: list[str] | None = None) -> int:
    """Judge, print the matrix, write the reports, and return the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    start = time.perf_counter()
    try:
        chosen = list(plan(options.cases, options.laws, options.dtype, options.bijectors))
        if not chosen:
            raise ValueError("none of these laws applies to any of these cases")
        if options.list:
            _list(options, chosen)
            return 0
        known = xfails.read(options.xfails, cases=CASES, laws=LAWS) if options.xfails else []
        for file in (options.html, options.json, options.junit, options.markdown):
            if file and not Path(file).resolve().parent.is_dir():
                raise ValueError(f"no directory for {file}")
        results = [
            accept(xfails.apply(result, known), options.tolerance)
            for result in _judge(options, chosen)
        ]
    except ValueError as error:
        parser.error(str(error))
    show(results)
    _write_reports(options, results, round(time.perf_counter() - start, 2))
    if any(result.status == "error" for result in results):
        return 2
    return 0 if proven(results) else 1


def _list(options: argparse.Namespace, chosen: Plan) -> None:
    """Print the specifications of chosen cases; without a choice, the names of all."""
    everything = options.cases == ["*"] and options.bijectors == ["*"]
    cases = {case.name: case for case, _, _ in chosen}
    for line in listing.names() if everything else listing.specifications(cases.values()):
        print(line)


def _judge(options: argparse.Namespace, chosen: Plan) -> Iterator[Result]:
    """Yield the results, and show progress if standard error is a terminal."""
    task = Options(
        options.adapter,
        options.seed,
        options.device,
        options.examples,
        options.timeout if options.timeout > 0 else None,
        list(dict.fromkeys(dtype for _, _, dtype in chosen)),
    )
    if options.in_process:
        results = judge_in_process(task, chosen)
    else:
        results = judge_in_workers(task, chosen, options.jobs)
    for i, (case, law, dtype) in enumerate(chosen, start=1):
        if sys.stderr.isatty():
            line = f"{i}/{len(chosen)} {case.name} {dtype} {law.name}"
            print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)
        yield next(results)
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr)


def _write_reports(options: argparse.Namespace, results: list[Result], seconds: float) -> None:
    about: dict[str, Any] = {
        "adapter": options.adapter,
        "device": options.device,
        "seed": options.seed,
        "examples": options.examples,
        "seconds": seconds,
    }
    if options.json:
        good = proven(results)
        about_cells = {"proven": good, "verdict": verdict(results), "counts": count(results)}
        write_json(Path(options.json), {**about, **about_cells, "cells": as_json(results)})
    if options.html:
        Path(options.html).write_text(html_report(results, about), encoding="utf-8")
    if options.markdown:
        Path(options.markdown).write_text(markdown(results, about), encoding="utf-8")
    if options.junit:
        Path(options.junit).write_text(junit(results, name=options.adapter), encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m conformance",
        description=__doc__,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_selection(parser.add_argument_group("selection"))
    _add_execution(parser.add_argument_group("execution"))
    _add_output(parser.add_argument_group("output"))
    return parser


def _add_selection(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--adapter",
        default=DEFAULT_ADAPTER,
        metavar="MODULE:CLASS",
        help="adapter of the implementation (default: flowpp's)",
    )
    add(
        "--cases",
        nargs="+",
        default=["*"],
        metavar="NAME",
        help="names or patterns of cases, such as coupling/* (default: all)",
    )
    add(
        "--bijectors",
        nargs="+",
        default=["*"],
        metavar="CLASS",
        help="classes whose cases are judged, such as Coupling ActNorm (default: all)",
    )
    add(
        "--laws",
        nargs="+",
        default=["*"],
        metavar="NAME",
        help="names or patterns of laws (default: all)",
    )
    add(
        "--dtype",
        nargs="+",
        default=DTYPES,
        metavar="DTYPE",
        help="float64, float32 or both (default: both)",
    )
    add("--device", default="cpu", help="device name passed to the adapter (default: cpu)")
    add("--seed", type=int, default=0, help="seed of specifications and inputs (default: 0)")
    add(
        "--examples",
        type=_positive,
        default=1,
        metavar="N",
        help="draws of specification and inputs for each case, from consecutive seeds "
        "(default: 1)",
    )
    add(
        "--tolerance",
        type=not_negative,
        default=0.0,
        metavar="ULPS",
        help="accept imprecise results, right formulas with more rounding errors than allowed, "
        "up to this many ulps (default: none)",
    )
    add(
        "--xfails",
        metavar="FILE",
        help="known failures with reasons, as TOML or as lines `case, law, dtype, reason`; a "
        "known failure that holds is reported as a failure",
    )


def _add_execution(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--timeout",
        type=not_negative,
        default=60.0,
        metavar="SECONDS",
        help="time limit for each cell, that is, a case under a law at a dtype (default: 60; "
        "0 for none)",
    )
    add(
        "--jobs",
        type=_positive,
        default=min(os.cpu_count() or 1, MAX_DEFAULT_JOBS),
        metavar="N",
        help="number of worker processes, which does not change the report (default: the number "
        "of processors, at most 4: here %(default)s)",
    )
    add(
        "--in-process",
        action="store_true",
        help="judge in this process, for debuggers: a hang in C code or a crash ends the run",
    )


def _add_output(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--list",
        action="store_true",
        help="list laws and cases; with --bijectors or --cases, their classes, docstrings, fields "
        "and shapes; and exit",
    )
    add("--html", metavar="FILE", help="write a report as one self-contained HTML file")
    add("--json", metavar="FILE", help="write every cell as JSON")
    add("--junit", metavar="FILE", help="write JUnit XML, for continuous integration")
    add("--markdown", metavar="FILE", help="write what was proven, with a badge, for a README")


def not_negative(text: str) -> float:
    """Parse a number that is at least 0.

    Raises:
        argparse.ArgumentTypeError: It is none.
    """
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0.0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number, at least 0, got {text}")
    return number


def _positive(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be a positive integer, got {text}")
    return number
