"""`python -m conformance`: an adapter through all laws; exit status 1 if any fails."""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

# Thousands of small calls: more threads only wait for each other. Read when NumPy and torch load.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from .adapter import DTYPES, load  # noqa: E402
from .cases import CASES  # noqa: E402
from .laws import LAWS  # noqa: E402
from .report import show  # noqa: E402
from .runner import Judge, plan  # noqa: E402


def main(arguments: list[str] | None = None) -> int:
    """Run, print the matrix, and return the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.list:
        for law in LAWS.values():
            print(f"law   {law.name:20} {law.meaning}")
        for name in CASES:
            print(f"case  {name}")
        return 0
    try:
        judge = Judge(load(options.adapter), seed=options.seed, device=options.device)
        chosen = list(plan(options.cases, options.laws, options.dtype))
    except ValueError as error:
        parser.error(str(error))
    cells = []
    for i, (case, law, dtype) in enumerate(chosen, start=1):
        if sys.stderr.isatty():
            print(f"\r\x1b[K{i}/{len(chosen)} {case.name} {dtype}", end="", file=sys.stderr)
        cells.append(judge.cell(case, law, dtype))
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr)
    show(cells)
    if options.json:
        Path(options.json).write_text(json.dumps([asdict(cell) for cell in cells], indent=1))
    return int(any(cell.status == "fails" for cell in cells))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m conformance", description=__doc__, allow_abbrev=False
    )
    parser.add_argument(
        "--adapter", default="conformance.flowpp_adapter:FlowppAdapter", metavar="MODULE:CLASS",
        help="what is judged (default: flowpp)",
    )
    parser.add_argument(
        "--dtype", nargs="+", default=DTYPES, metavar="DTYPE", help="float64, float32 or both"
    )
    parser.add_argument("--device", default="cpu", help="handed to the adapter")
    parser.add_argument("--seed", type=int, default=0, help="of specs and inputs")
    parser.add_argument(
        "--cases", nargs="+", default=["*"], metavar="NAME", help="names or patterns, coupling/*"
    )
    parser.add_argument("--laws", nargs="+", default=["*"], metavar="NAME")
    parser.add_argument("--list", action="store_true", help="show cases and laws, and stop")
    parser.add_argument("--json", metavar="FILE", help="write the cells there as well")
    return parser


if __name__ == "__main__":
    sys.exit(main())
