"""Training on the device for the time there is, interrupted once in the middle and resumed."""

from __future__ import annotations

import math
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from flowpp.config import presets
from flowpp.config.data_sets import DATA_SETS
from flowpp.runs.metrics import HELD_OUT, Record
from flowpp.runs.run import Run

from .plan import python
from .request import Request

INTERRUPTED_AFTER = 0.45
"""Share of the time after which the run is interrupted."""
USED = 0.7
"""Share of the time left after its new start that its steps may take; then it is evaluated."""
ENDLESS = 10_000_000
POINTS = 200
"""Most training points of the curve in the report."""
SIGTERM_STATUS = 128 + signal.SIGTERM


def measure(request: Request) -> dict[str, Any]:
    """Train, interrupt, resume; return the curve, and what was not as it should be."""
    start, run = time.monotonic(), Path(request.run)
    source, data_flags = data(request)
    first = start_training(
        request.preset, "--out", run, *data_flags, *settings(request), "--training.steps", ENDLESS
    )
    startup = _first_log(first, run)
    before = _interrupt(first, run, start + INTERRUPTED_AFTER * request.seconds, request)
    if first.returncode != SIGTERM_STATUS:
        raise RuntimeError(
            f"interrupted training must end with {SIGTERM_STATUS}, got {first.returncode}"
        )
    left = request.seconds - (time.monotonic() - start) - startup
    steps = before + (4 if request.tiny else planned_steps(Run(run), left))
    second = start_training(
        "--resume", run, "--training.steps", steps,
        "--training.evaluate_every", max(1, steps // 3),
    )  # fmt: skip
    second.wait()
    failures = []
    if second.returncode:
        failures.append(f"resumed training must end with 0, got {second.returncode}")
    return _result(request, run, source, before, failures)


def data(request: Request) -> tuple[str, list[str]]:
    """Return what is trained on, in words, and the flags for it.

    Raises:
        ValueError: There is no data for the preset.
    """
    source = presets.get(request.preset).data.source
    if DATA_SETS[source].bundled:
        return f"{source}, which come with scikit-learn", []
    if request.data is not None:
        return request.data, ["--data.path", request.data]
    if source == "cifar10":
        words = "photos: crops of scikit-learn's two photographs, since no data was given"
        return words, ["--data.source", "photos"]
    raise ValueError(
        f"preset {request.preset} needs --data: {source} does not come with a package"
    )


def settings(request: Request) -> list[object]:
    """Return the training flags: a short warm-up, and an average that forgets the beginning."""
    flags: dict[str, object] = {
        "device": request.device,
        "precision": "float32" if request.tiny else "bfloat16",
        "schedule": "warm-up 200",
        "learning_rate": 5e-4,
        "ema_decay": 0.99,
        "log_every": 1 if request.tiny else 10,
        "evaluate_every": ENDLESS,
        "evaluation_images": 512,
        "sample_count": 4 if request.tiny else 36,
    }
    return [word for name, value in flags.items() for word in (f"--training.{name}", value)]


def start_training(*arguments: object) -> subprocess.Popen[bytes]:
    """Start `python -m flowpp.train` with the output of this process."""
    return subprocess.Popen(python("flowpp.train", *arguments))


def planned_steps(run: Run, seconds: float) -> int:
    """Return how many steps fit into the time, at the rate that was last logged."""
    rate = [r["images_per_second"] for r in run.metrics() if r.get("images_per_second")][-1]
    return max(1, math.floor(USED * seconds * rate / run.config().training.batch_size))


def _first_log(process: subprocess.Popen[bytes], run: Path) -> float:
    """Wait until a step is logged; return the seconds that this took."""
    start, file = time.monotonic(), run / "metrics.jsonl"
    while process.poll() is None and not (file.exists() and file.stat().st_size):
        time.sleep(0.1)
    return time.monotonic() - start


def _interrupt(
    process: subprocess.Popen[bytes], run: Path, deadline: float, request: Request
) -> int:
    """Send SIGTERM at the deadline, and return the number of steps done."""
    while process.poll() is None and not request.tiny and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    process.wait()
    return Run(run).steps_done()


def _result(
    request: Request, run: Path, source: str, before: int, failures: list[str]
) -> dict[str, Any]:
    records = Run(run).metrics()
    batch = Run(run).config().training.batch_size
    failures = [*failures, *_faults(records, before, request)]
    train = [_point(r, "bits_per_dim", batch) for r in records if r.get("bits_per_dim")]
    return {
        "data": source,
        "interrupted_at_step": before,
        "steps": Run(run).steps_done(),
        "images_seen": Run(run).steps_done() * batch,
        "images_per_second": max((r.get("images_per_second") or 0.0 for r in records), default=0),
        "skipped_steps": max((r.get("skipped") or 0 for r in records), default=0),
        "training": train[:: max(1, math.ceil(len(train) / POINTS))],
        "held_out": [_point(r, HELD_OUT, batch) for r in records if r.get(HELD_OUT)],
        "failures": failures,
    }


def _point(record: Record, name: str, batch: int) -> dict[str, float]:
    return {
        "step": record["step"],
        "images": record["step"] * batch,
        "bits_per_dim": record[name],
    }


def _faults(records: list[Record], before: int, request: Request) -> list[str]:
    """Return what a run that was interrupted and resumed should not show."""
    logged = [r for r in records if "bits_per_dim" in r]
    steps = [r["step"] for r in logged]
    bits = [r["bits_per_dim"] for r in logged]
    faults = []
    if not before or not steps or steps[-1] <= before:
        faults.append(f"steps must follow the interruption at step {before}, got {steps[-1:]}")
    if steps != sorted(set(steps)):
        faults.append("steps of the log must increase, across the interruption too")
    if any(value is None for value in bits):
        faults.append("bits/dim of the log must be finite")
    elif not request.tiny and not bits[-1] < bits[0]:
        faults.append(f"bits/dim must fall, got {bits[0]:.3f} at first and {bits[-1]:.3f} at last")
    if not any(HELD_OUT in r for r in records):
        faults.append("the run must end with an evaluation")
    return faults
