"""A process that judges cells and writes each down a pipe as it is done.

It is started by `in_process_of_its_own`, which outlives whatever an implementation does to it.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from .adapter import load
from .cell import as_json
from .runner import Judge, cells_by_name


def main(pipe: int, task: dict[str, Any]) -> None:
    """Judge `task["cells"]`, in order; one line of JSON for each."""
    with os.fdopen(pipe, "w", encoding="utf-8") as out:

        def tell(message: dict[str, Any]) -> None:
            out.write(json.dumps(message) + "\n")
            out.flush()

        try:
            adapter = load(task["adapter"])
        except ValueError as error:
            tell({"refused": str(error)})
            return
        judge = Judge(
            adapter,
            seed=task["seed"],
            device=task["device"],
            examples=task["examples"],
            timeout=task["timeout"],
            name=task["adapter"],
        )
        tell({"ready": True})
        for case, law, dtype in cells_by_name(task["cells"]):
            tell({"cell": as_json([judge.cell(case, law, dtype)])[0]})


if __name__ == "__main__":
    main(int(sys.argv[1]), json.loads(sys.stdin.read()))
