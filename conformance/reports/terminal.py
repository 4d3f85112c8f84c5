"""Terminal report: tables of cases against laws, and the failures."""

from __future__ import annotations

import importlib.util
import math
import sys
from collections import Counter
from collections.abc import Iterable
from typing import TextIO

from conformance.laws import LAWS
from conformance.reports.grouping import causes, groups
from conformance.reports.result import STATUSES, Result
from conformance.reports.verdict import JUDGED, count, verdict

STYLES = {"!": "bold red", "*": "yellow"}
MARKS = {"left out": "-", "unsupported": "n/a", "error": "error!"}
VIOLATION = "violation"
"""Text of a cell whose error has no size in ulps."""
KEY = (
    "! fails   * imprecise   ~ fails as expected   n/a not supported   "
    "- the law does not apply\n"
    f"{VIOLATION}: an error without a size in ulps, such as a wrong shape or an exception\n"
    "error: an exception in the law itself, which says nothing about the implementation"
)
HEADS = {"error": "ERROR IN THE LAW", "fails": "FAILS", "imprecise": "IMPRECISE"}
MAX_REASONS = 30
MAX_FAILURES = 60
MAX_CAUSES = 8
MAX_COLUMNS = 10
"""Wider tables are split, so that each fits a terminal."""


def show(
    results: Iterable[Result], *, file: TextIO | None = None, rich: bool | None = None
) -> None:
    """Print a table for each dtype and family of laws, then the failures and a summary.

    A cell shows the largest error in ulps, with a mark that the key explains. Tables in which
    nothing was judged are left out.

    Args:
        results: Results to print.
        file: Output file; standard output by default.
        rich: Whether to use rich; by default, if it is installed and `file` is a terminal.
    """
    results, file = list(results), file or sys.stdout
    if rich is None:
        rich = file.isatty() and importlib.util.find_spec("rich") is not None
    for title, header, rows in _tables(results):
        (_show_rich if rich else _show_plain)(title, header, rows, file)
    print(f"\n{KEY}", file=file)
    failing = [result for result in results if result.status in HEADS]
    failing.sort(key=lambda result: list(HEADS).index(result.status))
    grouped = groups(failing)
    for group in grouped[:MAX_FAILURES]:
        print(failures(group), file=file)
    if len(grouped) > MAX_FAILURES:
        more = sum(map(len, grouped[MAX_FAILURES:]))
        print(f"... and {more} more failures (--html shows all)", file=file)
    print(summary(results), file=file)


def failures(group: list[Result]) -> str:
    """Return the text of the first of several failures with one cause, and the others' names."""
    first = group[0]
    dtypes = [result.dtype for result in group if result.case == first.case]
    text = failure(first, ", ".join(dtypes))
    others: dict[str, list[str]] = {}
    for result in group:
        if result.case != first.case:
            others.setdefault(result.case, []).append(result.dtype)
    same = [c if found == dtypes else f"{c} ({', '.join(found)})" for c, found in others.items()]
    return f"{text}\n  the same: {', '.join(same)}" if same else text


def failure(result: Result, dtypes: str = "") -> str:
    """Return a failure's size and place, its probable cause, and how to reproduce it.

    Args:
        result: A result that fails or is imprecise, or of a law that raised an exception itself.
        dtypes: Names of all dtypes at which it fails, if they are several.
    """
    # The message of a counterexample states its own tolerance.
    stated = result.ulps is None or result.allowed is None or "(allowed " in result.message
    size = "" if stated else f" (allowed {result.allowed:.3g})"
    head = HEADS.get(result.status, HEADS["fails"])
    name = f"{result.case} | {result.law} | {dtypes or result.dtype}"
    lines = [f"{head} {name}: {result.message}{size}"]
    lines += [f"  {line}" for line in result.traceback.splitlines()]
    if result.hint:
        lines.append(f"  probable cause: {result.hint}")
    if result.reproducer:
        first, *rest = result.reproducer.splitlines()
        lines += [f"  reproduce: {first}", *(f"    {line}" for line in rest)]
    return "\n".join(lines)


def summary(results: Iterable[Result]) -> str:
    """Return the number of results of each status, and the reasons of those not judged."""
    results = list(results)
    found = count(results)
    lines = [", ".join(f"{found[status]} {status}" for status in STATUSES)]
    if found["reference"]:
        lines.append(f"  {found['reference']} cells about the reference alone, not counted")
    for status, text in (
        ("expected", "fails as expected"),
        ("unsupported", "not supported"),
        ("left out", "left out"),
    ):
        reasons = Counter(c.message for c in results if c.status == status)
        for reason, number in reasons.most_common(MAX_REASONS):
            lines.append(f"  {text} {number} times: {reason}")
        if len(reasons) > MAX_REASONS:
            lines.append(f"  {text} for {len(reasons) - MAX_REASONS} more reasons")
    lines += _not_compared(results)
    lines += [
        f"  {cause.kind} of {_failures(len(cause.results))} ({cause.where}): {cause.text}"
        for cause in causes(results)[:MAX_CAUSES]
    ]
    lines += _imprecise(results)
    lines.append(verdict(results))
    return "\n".join(lines)


def _failures(number: int) -> str:
    return f"{number} failure{'s' if number > 1 else ''}"


def _imprecise(results: list[Result]) -> list[str]:
    """Return how imprecise the implementation is, and the option that accepts it."""
    found = [result for result in results if result.status == "imprecise"]
    if not found:
        return []
    worst = max(found, key=lambda result: result.ulps or 0.0)
    refused = [result.ulps or 0.0 for result in found if not result.accepted]
    hint = f"; --tolerance {math.ceil(max(refused))} accepts them" if refused else ", accepted"
    return [
        f"  imprecise {len(found)} times, at worst {worst.ulps:.3g} ulps or "
        f"{worst.wrong_bits:.1f} bits ({worst.case}, {worst.law}, {worst.dtype}){hint}"
    ]


def _not_compared(results: list[Result]) -> list[str]:
    """Return how many numbers were compared, and how many were not, by reason."""
    numbers: Counter[str] = Counter()
    among: Counter[str] = Counter()
    for result in results:
        for reason, number in result.not_compared.items():
            numbers[reason] += number
            among[reason] += 1
    compared = sum(result.compared for result in results)
    lines = [f"  {compared:,} numbers compared"] if compared else []
    return lines + [
        f"  {number:,} not compared, in {among[reason]} cells: {reason}"
        for reason, number in numbers.most_common(MAX_REASONS)
    ]


FAMILIES = {"bijector": "", "layer": ", of layers and models", "random": ", of random specs"}


def _tables(results: list[Result]) -> Iterable[tuple[str, list[str], list[list[str]]]]:
    for family, text in FAMILIES.items():
        for dtype in sorted({result.dtype for result in results}):
            members = [c for c in results if c.dtype == dtype and LAWS[c.law].family == family]
            if not any(result.status in (*JUDGED, "error") for result in members):
                continue
            laws = [law for law in LAWS if any(c.law == law for c in members)]
            table: dict[str, dict[str, str]] = {}
            for result in members:
                table.setdefault(result.case, {})[result.law] = text_of(result)
            title = f"largest error in ulps, {dtype}{text}"
            for start in range(0, len(laws), MAX_COLUMNS):
                some = laws[start : start + MAX_COLUMNS]
                rows = [[case, *(row.get(law, "") for law in some)] for case, row in table.items()]
                yield title, ["case", *some], [row for row in rows if any(row[1:])]


def text_of(result: Result) -> str:
    """Return the text of a table cell."""
    if result.status in MARKS:
        return MARKS[result.status]
    size = VIOLATION if result.ulps is None else f"{result.ulps:.2g}"
    return size + {"fails": "!", "imprecise": "*", "expected": "~"}.get(result.status, "")


def _show_plain(title: str, header: list[str], rows: list[list[str]], file: TextIO) -> None:
    # Long names of laws take two lines, so that the table fits a terminal.
    heads = [name.split("_", 1) if len(name) > 9 else [name] for name in header]
    top = [f"{h[0]}_" if len(h) == 2 else "" for h in heads]
    bottom = [h[-1] for h in heads]
    widths = [max(map(len, column)) for column in zip(top, bottom, *rows, strict=True)]
    print(f"\n{title}", file=file)
    for row in (top, bottom, *rows):
        first, *rest = (
            text.ljust(width) if i == 0 else text.rjust(width)
            for i, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        print("  ".join([first, *rest]).rstrip(), file=file)


def _show_rich(title: str, header: list[str], rows: list[list[str]], file: TextIO) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, header_style="bold", pad_edge=False)
    for i, name in enumerate(header):
        table.add_column(name, justify="left" if i == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(t, style=STYLES.get(t[-1:], "")) for t in row))
    Console(file=file).print(table)
