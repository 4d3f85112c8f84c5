"""Names of report files: date, subject, and the card or the processor."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from . import machine


def path(given: Path, report: dict[str, Any], subject: str) -> Path:
    """Return the path of a file itself, or for a folder that of a new file in it.

    Args:
        given: File, or existing folder such as `tests/benchmarks/results`.
        report: Report with `date` and `machine`.
        subject: What was measured, such as a preset.
    """
    if not given.is_dir():
        return given
    name = re.sub(r"[^A-Za-z0-9]+", "-", machine.name(report["machine"])).strip("-")
    stem = f"{report['date']}-{subject}-{name}"
    names = (f"{stem}{suffix}.json" for suffix in ("", *(f"-{n}" for n in range(2, 1000))))
    return next(file for name in names if not (file := given / name).exists())
