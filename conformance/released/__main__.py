"""Compare flowpp and the reference with vectors recorded from the authors' released code.

Exit status: 0 if everything comparable agrees; 1 if something differs, or nothing is comparable;
2 on unusable or incomplete files.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from conformance.judging.arguments import Parser
from conformance.reports.standard_output import exit_on_broken_pipe

from .cdf import compare_cdf
from .comparison import compare_model
from .differences import Row
from .table import held, show
from .vectors import IncompleteVectors, Vectors


def main(arguments: list[str] | None = None) -> int:
    """Compare each file, print a table, and return the exit status."""
    parser = Parser(
        prog="python -m conformance.released",
        description=__doc__,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "vectors", nargs="+", type=Path, metavar="VECTORS.npz", help="file of recorded vectors"
    )
    parser.add_argument(
        "--all", action="store_true", help="print every element of a chain, not only the worst"
    )
    options = parser.parse_args(arguments)
    rows: list[Row] = []
    incomplete = False
    try:
        files = [_read(path) for path in options.vectors]
        for file in files:
            try:
                rows += _compare(file, files, every=options.all)
            except IncompleteVectors as error:
                incomplete = True
                print(f"conformance.released: {error}", file=sys.stderr)
    except ValueError as error:
        print(f"conformance.released: {error}", file=sys.stderr)
        return 2
    return _conclude(rows, incomplete=incomplete)


def _compare(file: Vectors, files: list[Vectors], *, every: bool) -> list[Row]:
    """Compare one file, print its table, and return its rows.

    Raises:
        ValueError: The file cannot be used.
    """
    if file.is_cdf:
        rows = compare_cdf(file)
        show(file, None, rows)
        return rows
    others = [other for other in files if other is not file]
    topology, rows = compare_model(file, others + _siblings(file))
    show(file, topology, rows, every=every)
    return rows


def _conclude(rows: list[Row], *, incomplete: bool) -> int:
    """Print the conclusion, and return the exit status."""
    differing, without = sum(row.differs for row in rows), sum(not row.comparable for row in rows)
    if differing:
        print(f"{differing} quantities differ")
        return 1
    if incomplete:
        return 2
    if not held(rows):
        print("nothing was comparable")
        return 1
    print("everything holds" + (f", except {without} not comparable" if without else ""))
    return 0


def _read(path: Path) -> Vectors:
    if not path.is_file():
        raise ValueError(f"no file of vectors at {path}")
    return Vectors(path)


def _siblings(file: Vectors) -> list[Vectors]:
    """Return main files of the case and folder of an initialization that lacks variables."""
    if not file.is_initialization or set(file.meta.get("variables", ())) <= set(file.variables):
        return []
    found = []
    for path in sorted(file.path.parent.glob("*.npz")):
        try:
            other = Vectors(path)
        except ValueError:
            continue  # not a file of vectors
        if other.case == file.case and not other.is_initialization:
            found.append(other)
    return found


if __name__ == "__main__":
    with exit_on_broken_pipe():
        sys.exit(main())
