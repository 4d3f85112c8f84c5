"""A process that reads which cells are wanted and writes each down a pipe as it is judged.

It is started by `judging.Worker`, which outlives whatever an implementation does to it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from typing import Any

from conformance.judging.options import Options
from conformance.judging.plan import cells_by_name
from conformance.judging.result import as_json


def main(pipe: int, lines: Iterable[str]) -> None:
    """The first line is the options, each that follows the names of a cell; all of JSON."""
    with os.fdopen(pipe, "w", encoding="utf-8") as out:

        def tell(message: dict[str, Any]) -> None:
            out.write(json.dumps(message) + "\n")
            out.flush()

        wanted = map(json.loads, lines)
        options = Options(**next(wanted))
        try:
            judge = options.judge()
        except ValueError as error:
            tell({"refused": str(error)})
            return
        tell({"ready": True})
        for case, law, dtype in cells_by_name(wanted):
            tell({"cell": as_json([judge.judge(case, law, dtype)])[0]})


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.stdin)
