"""Results of a plan's runs as plain values, ready for JSON.

A report is {"title", "steps", "protocol", "rows"}; a row is

    {"name", "preset", "settings", "against", "source", "steps", "batch_size", "weights",
     "ema_decay", "runs"}

and a run {"seed", "steps_done", "held_out", "training", "seconds_per_step", "skipped",
"failure"}, where "held_out" has bits per dimension by step, as text, and "training" the mean over
the batches of the last `TRAINING_WINDOW` steps before each of them. "source" is None for runs of
this library, and says where quoted values come from.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from flowpp.runs.metrics import HELD_OUT, Record
from flowpp.runs.run import Run
from flowpp.runtime.bounded import read_json

from .execution import Task, tasks
from .plan import Plan, Row

PROTOCOL = (
    "Bits per dimension of the held-out images, one-sample bound, with the raw weights at that "
    "step where nothing else is said."
)
TRAINING_WINDOW = 100
"""Number of steps whose batches are averaged as the training bound."""
LARGEST = 64 << 20
"""Upper bound on the size of a report, in bytes."""


def report(plan: Plan, out: Path) -> dict[str, Any]:
    """Return the report of all runs that there are, finished or not."""
    rows = [quoted_row(file, name) for file, name in plan.quoted]
    rows += [_row(row, tasks([row], out), plan.steps) for row in plan.rows]
    return {
        "title": plan.title,
        "date": datetime.now(timezone.utc).date().isoformat(),
        "protocol": PROTOCOL,
        "steps": list(plan.steps),
        "rows": rows,
    }


def read_report(path: Path) -> dict[str, Any]:
    """Read a report.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is not a report.
    """
    value = read_json(path, LARGEST)
    if not isinstance(value, dict) or not isinstance(value.get("rows"), list):
        raise ValueError(f"{path} must be a report with rows, got something else")
    return value


def quoted_row(file: Path, name: str) -> dict[str, Any]:
    """Return a row of another report.

    Raises:
        ValueError: It has no such row.
    """
    rows = {row["name"]: row for row in read_report(file)["rows"]}
    if name not in rows:
        raise ValueError(f"row must be one of {', '.join(rows)} of {file}, got {name!r}")
    row: dict[str, Any] = rows[name]
    return {**row, "source": row.get("source") or file.name}


def _row(row: Row, wanted: Sequence[Task], steps: Sequence[int]) -> dict[str, Any]:
    started = [task for task in wanted if (task.path / "config.json").is_file()]
    return {
        "name": row.name,
        "preset": row.preset,
        "settings": {k: v for k, v in row.settings.items() if k != "data.path"},
        "against": row.against,
        "source": None,
        "steps": row.config.training.steps,
        "batch_size": row.config.training.batch_size,
        "weights": _weights(started),
        "ema_decay": row.config.training.ema_decay,
        "runs": [_run(task, steps) for task in started],
    }


def _run(task: Task, steps: Sequence[int]) -> dict[str, Any]:
    records = Run.open(task.path).metrics()
    held_out = {r["step"]: r[HELD_OUT] for r in records if HELD_OUT in r}
    training = [r for r in records if HELD_OUT not in r]
    wanted = [step for step in steps if step in held_out]
    return {
        "seed": task.seed,
        "steps_done": max((r["step"] for r in records), default=0),
        "held_out": {str(step): held_out[step] for step in wanted},
        "training": {str(step): _training_mean(training, step) for step in wanted},
        "seconds_per_step": _seconds_per_step(training, task.row.config.training.batch_size),
        "skipped": max((r["skipped"] for r in training), default=0),
        "failure": task.failure,
    }


def _training_mean(records: Iterable[Record], last: int) -> float | None:
    """Return the mean over the batches of the last steps; a record has that since the one before.

    None if a record has no number.
    """
    total, before = 0.0, 0
    for record in records:
        step, value = record["step"], record["bits_per_dim"]
        length = min(step, last) - max(before, last - TRAINING_WINDOW, 0)
        if length > 0:
            if value is None:
                return None
            total += length * value
        before = step
    return total / min(TRAINING_WINDOW, last)


def _seconds_per_step(records: Sequence[Record], batch_size: int) -> float | None:
    speeds = [r["images_per_second"] for r in records if r["images_per_second"]]
    return batch_size / statistics.median(speeds) if speeds else None


def _weights(started: Sequence[Task]) -> int | None:
    """Return the number of weights; None before the first checkpoint."""
    for task in started:
        try:
            checkpoint = Run.open(task.path).load_checkpoint()
        except (FileNotFoundError, ValueError):
            continue
        return sum(math.prod(tensor.shape) for tensor in checkpoint.ema.values())
    return None


def values(row: Mapping[str, Any], step: int) -> dict[int, float]:
    """Return the held-out bounds of a row at a step, by seed; those that are numbers."""
    found = {run["seed"]: run["held_out"].get(str(step)) for run in row["runs"]}
    return {seed: value for seed, value in found.items() if value is not None}
