"""Compare a recorded fingerprint of a trained model with the NumPy reference in float64.

`python -m flowpp.evaluate RUN --fingerprint` records, on any device or machine, the inputs and
outputs of every layer. This command recomputes the outputs, prints the differences and writes them
as JSON.

Exit status: 0 on success, 2 if the fingerprint or the run cannot be used.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from conformance.judging.arguments import Parser
from conformance.reports.standard_output import exit_on_broken_pipe


def main(arguments: list[str] | None = None) -> int:
    """Compare, print a table, write a JSON file, and return the exit status."""
    options = _parser().parse_args(arguments)
    # Imported after parsing, because torch takes seconds to load.
    from conformance.fingerprint import reference_comparison
    from conformance.reports.json import write_json

    try:
        recorded = options.recorded or reference_comparison.newest(options.run)
        report, table = reference_comparison.judge(options.run, recorded)
        out = options.out or recorded.with_name(f"{recorded.stem}-reference.json")
        write_json(out, report, indent=2)
    except (ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print(f"{table}\nreport    {out}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="python -m conformance.fingerprint", description=__doc__, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument(
        "run", type=Path, metavar="RUN", help="run directory with the recorded weights"
    )
    parser.add_argument(
        "--recorded",
        type=Path,
        metavar="FILE.npz",
        help="recorded fingerprint (default: the newest in the run's folder fingerprints)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE.json",
        help="output file (default: next to the recording, with the suffix -reference)",
    )
    return parser


if __name__ == "__main__":
    with exit_on_broken_pipe():
        sys.exit(main())
