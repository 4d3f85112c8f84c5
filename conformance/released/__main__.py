"""`python -m conformance.released VECTORS.npz [...]`: compare with the released code's vectors."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .cdf import prove_cdf
from .compare import Row
from .proof import prove
from .table import show
from .vectors import Vectors


def main(arguments: list[str] | None = None) -> int:
    """Compare each file; returns 0 when everything holds, 1 when not, 2 on unusable input."""
    parser = argparse.ArgumentParser(
        prog="python -m conformance.released",
        description="Compare flowpp and the reference with the released code's vectors.",
    )
    parser.add_argument("vectors", nargs="+", type=Path, help=".npz files of recorded vectors")
    parser.add_argument("--all", action="store_true", help="a row for every chain element")
    options = parser.parse_args(arguments)
    failed: list[Row] = []
    try:
        files = [_read(path) for path in options.vectors]
        for file in files:
            if file.is_cdf:
                rows = prove_cdf(file)
                show(file, None, rows)
                failed += [row for row in rows if not row.holds]
                continue
            others = [other for other in files if other is not file] or []
            topology, rows = prove(file, others + _siblings(file))
            show(file, topology, rows, every=options.all)
            failed += [row for row in rows if not row.holds]
    except ValueError as error:
        print(f"conformance.released: {error}", file=sys.stderr)
        return 2
    print(f"{len(failed)} quantities differ" if failed else "everything holds")
    return 1 if failed else 0


def _read(path: Path) -> Vectors:
    if not path.is_file():
        raise ValueError(f"needs a file of vectors, got {path}, which is not there")
    return Vectors(path)


def _siblings(file: Vectors) -> list[Vectors]:
    """Main files of the same case and folder, for an initialization that leaves variables out."""
    if not file.is_initialization or set(file.meta.get("variables", ())) <= set(file.variables):
        return []
    found = []
    for path in sorted(file.path.parent.glob("*.npz")):
        try:
            other = Vectors(path)
        except ValueError:
            continue  # some other kind of file
        if other.case == file.case and not other.is_initialization:
            found.append(other)
    return found


if __name__ == "__main__":
    sys.exit(main())
