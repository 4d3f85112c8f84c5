"""Stages that are measured in Python: python -m flowpp.benchmark.gpu_check.measure NAME REQUEST.

REQUEST is JSON: the settings of `Request`. The result is written to the stage's folder; status 1
if it has failures.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flowpp.runtime.files import finite_or_null, write_json

from . import accuracy, compiler, machine, training
from .request import Request
from .stage import RESULT

Result = dict[str, Any]
MEASUREMENTS: dict[str, Callable[[Request], Result]] = {
    "machine": machine.measure,
    "compiler": compiler.measure,
    "fingerprint": accuracy.fingerprint,
    "initialization": accuracy.initialization,
    "training": training.measure,
}


def main(name: str, request: str) -> int:
    """Measure, write the result, and return the exit status."""
    asked = Request(**json.loads(request))
    result = finite_or_null(MEASUREMENTS[name](asked))
    write_json(Path(asked.folder) / RESULT, result)
    print(json.dumps(result)[:2000])
    for failure in result.get("failures", ()):
        print(failure)
    return 1 if result.get("failures") else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
