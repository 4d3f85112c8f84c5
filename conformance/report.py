"""The matrix of cells, as rich tables where rich is installed, else as plain text."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable
from typing import TextIO

from .laws import LAWS
from .runner import Cell


def show(cells: Iterable[Cell], *, file: TextIO | None = None, rich: bool | None = None) -> None:
    """Print a table for each dtype and family of laws, then what fails, line by line.

    A cell holds the worst error in ulps; a failing one is marked `!`, one left out is `-`.

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
    for cell in cells:
        if cell.status == "fails":
            print(failure(cell), file=file)
    print(summary(cells), file=file)


def failure(cell: Cell) -> str:
    """One line that says what failed, by how much, and where."""
    size = "" if cell.ulps is None else f" (allowed {cell.allowed:.3g})"
    return f"FAILS {cell.case} | {cell.law} | {cell.dtype}: {cell.message}{size}"


def summary(cells: Iterable[Cell]) -> str:
    """How many hold, fail, were left out; and why, for the last."""
    cells = list(cells)
    count = {status: sum(c.status == status for c in cells) for status in
             ("holds", "fails", "left out")}
    lines = [", ".join(f"{number} {status}" for status, number in count.items())]
    reasons: dict[str, int] = {}
    for cell in cells:
        if cell.status == "left out":
            reasons[cell.message] = reasons.get(cell.message, 0) + 1
    lines += [f"  left out {number} times: {reason}" for reason, number in reasons.items()]
    return "\n".join(lines)


def _tables(cells: list[Cell]) -> Iterable[tuple[str, list[str], list[list[str]]]]:
    groups: dict[tuple[str, bool], list[Cell]] = {}
    for cell in cells:
        is_layer = LAWS[cell.law].family == "layer"
        groups.setdefault((cell.dtype, is_layer), []).append(cell)
    for (dtype, _), members in sorted(groups.items(), key=lambda item: (item[0][1], item[0][0])):
        laws = list(dict.fromkeys(cell.law for cell in members))
        table: dict[str, dict[str, str]] = {}
        for cell in members:
            table.setdefault(cell.case, {})[cell.law] = _text(cell)
        rows = [[case, *(row.get(law, "") for law in laws)] for case, row in table.items()]
        yield f"worst error in ulps of {dtype}", ["case", *laws], rows


def _text(cell: Cell) -> str:
    if cell.status == "left out":
        return "-"
    size = "broken" if cell.ulps is None else f"{cell.ulps:.2g}"
    return f"{size}!" if cell.status == "fails" else size


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
