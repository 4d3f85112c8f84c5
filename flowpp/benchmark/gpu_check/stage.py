"""A stage of a check: a command with a time limit, and the record of how it went."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from flowpp.runtime.files import finite_or_null

from .plan import ROOT, Plan, environment
from .process import run

Status = Literal["passed", "failed", "skipped", "no time"]
RESULT = "result.json"
SHORTEST = 2.0
"""Seconds below which a stage is not started."""


def no_reason(_: Plan) -> str | None:
    """Return None: nothing is lacking."""
    return None


def stored_result(folder: Path) -> dict[str, Any]:
    """Return what the stage's own process has written."""
    return dict(json.loads((folder / RESULT).read_text(encoding="utf-8")))


@dataclass(frozen=True)
class Stage:
    """One stage.

    Args:
        name: Name in the report.
        seconds: Time limit in a check of 8 minutes.
        command: Command line, from the plan, the stage's folder and the seconds that it may take.
        result: What goes into the report, from the files in the stage's folder. An entry
            `failures`, a list of lines, makes the stage fail.
        lacking: Reason for which the stage does not apply here, or None.
        place: "training" gets all time that is left but for the stages after it.
        optional: Whether the check passes without this stage if there is no time for it.
    """

    name: str
    seconds: float
    command: Callable[[Plan, Path, float], list[str]]
    result: Callable[[Path], dict[str, Any]] = stored_result
    lacking: Callable[[Plan], str | None] = no_reason
    place: Literal["before", "training", "after"] = "before"
    optional: bool = False


@dataclass(frozen=True)
class Record:
    """How a stage went; an entry of the report.

    Args:
        name: The stage.
        status: "skipped" if the stage does not apply here, "no time" if none was left.
        seconds: Time that it took.
        limit_seconds: Time that it had.
        command: Command line, None if it was not started.
        exit_status: Exit status of the process, negative for a signal.
        error: Reason in one line, unless it passed.
        log_tail: Last lines of its output.
        result: What it measured, as far as it came.
    """

    name: str
    status: Status
    seconds: float = 0.0
    limit_seconds: float = 0.0
    command: list[str] | None = None
    exit_status: int | None = None
    error: str | None = None
    log_tail: tuple[str, ...] = ()
    result: dict[str, Any] | None = None

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return dict(finite_or_null(asdict(self)))


def carry_out(stage: Stage, plan: Plan, seconds: float) -> Record:
    """Run a stage for at most `seconds`; nothing that goes wrong in it raises an error here."""
    start = time.monotonic()
    try:
        if reason := stage.lacking(plan):
            return Record(stage.name, "skipped", error=reason)
        if seconds < SHORTEST:
            return Record(stage.name, "no time", error=f"{max(0, seconds):.0f} s were left")
        folder = plan.folder(stage.name)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / RESULT).unlink(missing_ok=True)
        logs = plan.out / "logs"
        logs.mkdir(exist_ok=True)
        command = stage.command(plan, folder, seconds)
        ended = run(
            command,
            log=logs / f"{stage.name}.log",
            seconds=seconds,
            folder=ROOT,
            environment=environment(),
        )
    except Exception as error:  # the next stages may still succeed
        elapsed = time.monotonic() - start
        return Record(stage.name, "failed", elapsed, seconds, error=repr(error))
    result, problem = _result(stage, folder)
    failures = (result or {}).get("failures")
    reason = ended.error
    if failures and not ended.timed_out:
        reason = "; ".join(failures)
    reason = reason or problem
    return Record(
        stage.name,
        "failed" if reason else "passed",
        ended.seconds,
        seconds,
        command,
        ended.status,
        reason,
        tuple(ended.tail) if reason else (),
        result,
    )


def _result(stage: Stage, folder: Path) -> tuple[dict[str, Any] | None, str | None]:
    """Return the stage's result and None, or None and why there is none."""
    try:
        return stage.result(folder), None
    except Exception as error:
        return None, f"no result: {error!r}"
