"""Record of failed compilations in the cache, so that later processes do not repeat them.

A record counts for a day, on one machine, while the environment variables that a compiler reads
are the same. Compiler, flags, sources and processor are in its name.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from flowpp.kernels import cache
from flowpp.kernels.build_error import BuildError
from flowpp.runtime.files import write_json

from .compiler import variables

SECONDS = 24 * 3600
"""Time after which a compilation is tried again: headers may have been installed."""
LARGEST = 1 << 16


_in_process: dict[str, str] = {}
"""Reasons of this process's failures, by the name of the record."""


def check_failures(names: Iterable[str], folder: Path | None) -> None:
    """Raise the error of a compilation that failed, if it would fail again.

    Args:
        names: Names of the records that apply.
        folder: Folder of the cache; None where it cannot be used.

    Raises:
        BuildError: A record is valid.
    """
    for name in names:
        reason = _in_process.get(name)
        if reason is None and folder is not None and not cache.wants_rebuild():
            reason = _valid_reason(folder / f"{name}.failed.json")
        if reason is not None:
            raise BuildError(reason)


def remember_failure(name: str, folder: Path | None, error: Exception) -> None:
    """Record an error for this process and, if there is a folder for it, for later ones."""
    _in_process[name] = str(error)
    if folder is None:
        return
    record = {"reason": str(error), "time": time.time(), "depends_on": _circumstances()}
    try:
        write_json(folder / f"{name}.failed.json", record)
    except OSError:
        pass  # later processes try again


def remove_records(names: Iterable[str], folder: Path) -> None:
    """Remove records of compilations that have succeeded meanwhile."""
    for name in names:
        (folder / f"{name}.failed.json").unlink(missing_ok=True)


def forget_failures() -> None:
    """Forget this process's failures; records on disk remain."""
    _in_process.clear()


def _valid_reason(file: Path) -> str | None:
    """Return the recorded reason, and when it was recorded; None if it no longer counts."""
    record = _read(file)
    when, reason = record.get("time"), record.get("reason")
    if not isinstance(when, (int, float)) or not isinstance(reason, str):
        return None
    if record.get("depends_on") != _circumstances() or not 0 <= time.time() - when < SECONDS:
        return None
    date = time.strftime("%Y-%m-%d %H:%M", time.localtime(when))
    return f"{reason}\n(at {date}, recorded in {file}; {cache.REBUILD}=1 tries again)"


def _circumstances() -> dict[str, Any]:
    return {"machine": platform.node(), "variables": variables()}


def _read(file: Path) -> dict[str, Any]:
    try:
        with open(file, encoding="utf-8") as stream:
            value = json.loads(stream.read(LARGEST))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
