"""The matrix of cells, as rich tables where rich is installed, else as plain text."""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from collections.abc import Iterable
from typing import TextIO

from conformance.judging.result import STATUSES, Result
from conformance.laws import LAWS

MARKS = {"left out": "-", "unsupported": "n/a"}
KEY = "! fails   ~ fails as expected   n/a not supported   - the law does not apply"
MOST_REASONS = 30
MOST_FAILURES = 60
MOST_COLUMNS = 10
"""A table of more is two, so that each fits a terminal."""


def show(cells: Iterable[Result], *, file: TextIO | None = None, rich: bool | None = None) -> None:
    """Print a table for each dtype and family of laws, then what fails, line by line.

    A cell holds the worst error in ulps; a failing one is marked `!`, an expected failure `~`.

    Args:
        cells: what was judged.
        file: standard output by default.
        rich: whether to use rich; by default, if it is installed and `file` is a terminal.
    """
    cells, file = list(cells), file or sys.stdout
    if rich is None:
        rich = file.isatty() and importlib.util.find_spec("rich") is not None
    for title, header, rows in _tables(cells):
        (_show_rich if rich else _show_plain)(title, header, rows, file)
    print(f"\n{KEY}", file=file)
    failing = [cell for cell in cells if cell.status == "fails"]
    for cell in failing[:MOST_FAILURES]:
        print(failure(cell), file=file)
    if len(failing) > MOST_FAILURES:
        print(f"... and {len(failing) - MOST_FAILURES} more that fail (all in --html)", file=file)
    print(summary(cells), file=file)


def failure(cell: Result) -> str:
    """What failed, by how much, and where; the probable cause; and how to see it again."""
    size = "" if cell.ulps is None else f" (allowed {cell.allowed:.3g})"
    lines = [f"FAILS {cell.name}: {cell.message}{size}"]
    if cell.hint:
        lines.append(f"  probable cause: {cell.hint}")
    if cell.reproducer:
        first, *rest = cell.reproducer.splitlines()
        lines += [f"  again: {first}", *(f"    {line}" for line in rest)]
    return "\n".join(lines)


def summary(cells: Iterable[Result]) -> str:
    """How many hold, fail, and were not judged; and the reasons for what is neither."""
    cells = list(cells)
    count = {status: sum(c.status == status for c in cells) for status in STATUSES}
    lines = [", ".join(f"{number} {status}" for status, number in count.items())]
    for status, text in (
        ("expected", "fails as expected"),
        ("unsupported", "not supported"),
        ("left out", "left out"),
    ):
        reasons = Counter(c.message for c in cells if c.status == status)
        for reason, number in reasons.most_common(MOST_REASONS):
            lines.append(f"  {text} {number} times: {reason}")
        if len(reasons) > MOST_REASONS:
            lines.append(f"  {text} for {len(reasons) - MOST_REASONS} more reasons")
    lines += _not_compared(cells)
    causes = Counter(c.hint for c in cells if c.status == "fails" and c.hint)
    lines += [f"  probable cause of {number}: {cause}" for cause, number in causes.most_common(8)]
    if not count["holds"] and not count["fails"]:
        lines.append("nothing was proven: no cell could be judged")
    return "\n".join(lines)


def _not_compared(cells: list[Result]) -> list[str]:
    """What single numbers could not be compared in cells that were judged, by reason."""
    numbers: Counter[str] = Counter()
    among: Counter[str] = Counter()
    for cell in cells:
        for reason, number in cell.not_compared.items():
            numbers[reason] += number
            among[reason] += 1
    compared = sum(cell.compared for cell in cells)
    lines = [f"  {compared:,} numbers compared"] if compared else []
    return lines + [
        f"  {number:,} not compared, in {among[reason]} cells: {reason}"
        for reason, number in numbers.most_common(MOST_REASONS)
    ]


def proven(cells: Iterable[Result]) -> bool:
    """Whether something holds, and nothing fails that is not expected to."""
    statuses = {cell.status for cell in cells}
    return "fails" not in statuses and bool(statuses & {"holds", "expected"})


FAMILIES = {"bijector": "", "layer": ", of layers and models", "random": ", of random specs"}


def _tables(cells: list[Result]) -> Iterable[tuple[str, list[str], list[list[str]]]]:
    for family, text in FAMILIES.items():
        for dtype in sorted({cell.dtype for cell in cells}):
            members = [c for c in cells if c.dtype == dtype and LAWS[c.law].family == family]
            if not members:
                continue
            laws = [law for law in LAWS if any(c.law == law for c in members)]
            table: dict[str, dict[str, str]] = {}
            for cell in members:
                table.setdefault(cell.case, {})[cell.law] = text_of(cell)
            title = f"worst error in ulps of {dtype}{text}"
            for start in range(0, len(laws), MOST_COLUMNS):
                some = laws[start : start + MOST_COLUMNS]
                rows = [[case, *(row.get(law, "") for law in some)] for case, row in table.items()]
                yield title, ["case", *some], [row for row in rows if any(row[1:])]


def text_of(cell: Result) -> str:
    """A cell in a few characters."""
    if cell.status in MARKS:
        return MARKS[cell.status]
    size = "broken" if cell.ulps is None else f"{cell.ulps:.2g}"
    return size + {"fails": "!", "expected": "~"}.get(cell.status, "")


def _show_plain(title: str, header: list[str], rows: list[list[str]], file: TextIO) -> None:
    # Long law names stand on two lines, so that the table fits a terminal.
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
        table.add_row(*(Text(t, style="bold red" if t.endswith("!") else "") for t in row))
    Console(file=file).print(table)
