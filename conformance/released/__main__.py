"""Compare flowpp and the reference with vectors recorded from the authors' released code.

Exit status: 0 if everything agrees, 1 if not, 2 on unusable files.
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
from .table import show
from .vectors import Vectors


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
    failed: list[Row] = []
    try:
        files = [_read(path) for path in options.vectors]
        for file in files:
            if file.is_cdf:
                rows = compare_cdf(file)
                show(file, None, rows)
                failed += [row for row in rows if not row.holds]
                continue
            others = [other for other in files if other is not file]
            topology, rows = compare_model(file, others + _siblings(file))
            show(file, topology, rows, every=options.all)
            failed += [row for row in rows if not row.holds]
    except ValueError as error:
        print(f"conformance.released: {error}", file=sys.stderr)
        return 2
    print(f"{len(failed)} quantities differ" if failed else "everything holds")
    return 1 if failed else 0


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
