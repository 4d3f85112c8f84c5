"""Table of the differences of one file."""

from __future__ import annotations

import re

from .differences import Row, is_worse
from .topology import Topology
from .vectors import Vectors

CHAIN = re.compile(r"(d?trace)/(\d+)")
COLUMNS = (("flowpp", "f32"), ("flowpp", "f64"), ("reference", "f64"))


def show(
    vectors: Vectors, topology: Topology | None, rows: list[Row], *, every: bool = False
) -> None:
    """Print one line per quantity; elements of a chain share one unless `every`, or one fails."""
    print(f"\n{vectors.path.name}: {_described(topology)}")
    print(
        f"{'quantity':<42}{'flowpp f32':>12}{'flowpp f64':>12}{'reference':>12}"
        f"{'allowed f32':>13}{'f64':>9}"
    )
    by_name: dict[str, dict[tuple[str, str], Row]] = {}
    for row in rows:
        name = row.quantity if every or row.differs else _chain_of(row.quantity)
        cell = by_name.setdefault(name, {})
        key = (row.implementation, row.precision)
        if key not in cell or is_worse(row, cell[key]):
            cell[key] = row
    for name, cells in by_name.items():
        print(_line(name, cells))
    print(_verdict(rows))


def held(rows: list[Row]) -> int:
    """Return the number of rows that hold."""
    return sum(row.holds for row in rows)


def _not_comparable(rows: list[Row]) -> str:
    number = sum(not row.comparable for row in rows)
    return f"; {number} not comparable (n/c)" if number else ""


def _described(topology: Topology | None) -> str:
    if topology is None:
        return "mixtures without a model"
    channels, height, width = topology.image_shape
    layout = topology.settings["flow"]["layout"]
    return f"{height}x{width}x{channels}, {topology.levels} levels, {layout}"


def _chain_of(name: str) -> str:
    match = CHAIN.match(name)
    if not match:
        return name
    chain = "main" if match[1] == "trace" else "dequantizer"
    return f"{chain} chain, worst element"


def _line(name: str, cells: dict[tuple[str, str], Row]) -> str:
    errors = "".join(f"{_cell(cells.get(column)):>12}" for column in COLUMNS)
    allowed = {row.precision: row.tolerance for row in cells.values()}
    limits = f"{_number(allowed.get('f32')):>13}{_number(allowed.get('f64')):>9}"
    notes = "; ".join(dict.fromkeys(row.note for row in cells.values() if row.note))
    return f"{name:<42}{errors}{limits}  {notes}".rstrip()


def _cell(row: Row | None) -> str:
    if row is None:
        return "-"
    if not row.comparable:
        return "n/c"
    return f"{row.error:.1e}" + (" !" if row.differs else "")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.0e}"


def _verdict(rows: list[Row]) -> str:
    failed = [row for row in rows if row.differs]
    if not failed:
        return f"{held(rows)} comparisons hold{_not_comparable(rows)}"
    first = failed[0]
    return (
        f"{len(failed)} of {len(rows)} comparisons differ, the first {first.quantity} "
        f"({first.implementation} {first.precision}): {first.error:.3g}, "
        f"allowed {first.tolerance:.3g}{_not_comparable(rows)}"
    )
