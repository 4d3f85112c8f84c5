"""`python -m conformance.fingerprint RUN`: a device's arithmetic, judged by the reference.

`python -m flowpp.evaluate RUN --fingerprint` records, on any device, what every layer of a trained
model was given and what it made of it. Here the NumPy reference computes the same in float64, and
the differences are printed and written as JSON. The recording may come from another machine.

Exit status: 0 compared, 2 for what cannot be.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path


def main(arguments: list[str] | None = None) -> int:
    """Compare, print a table, leave a JSON file; returns the exit status."""
    options = _parser().parse_args(arguments)
    from conformance.fingerprint import flowpp_run  # after parsing: torch takes seconds

    try:
        recorded = options.recorded or flowpp_run.newest(options.run)
        report, shown = flowpp_run.judge(options.run, recorded)
        out = options.out or recorded.with_name(f"{recorded.stem}-reference.json")
        out.write_text(json.dumps(report, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    except (ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print(f"{shown}\nreport    {out}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m conformance.fingerprint", description=__doc__, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("run", type=Path, metavar="RUN", help="run directory of flowpp.train")
    parser.add_argument(
        "--recorded", type=Path, metavar="FILE.npz", help="default: the run's newest"
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE.json", help="default: beside the recording"
    )
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
