"""Runs of a plan: one process of `python -m flowpp.train` each, resumed where it was stopped.

The folder of a plan has for each row ROW/seed-N/, a run directory, ROW/seed-N.json with the
settings that were asked for, and ROW/seed-N.log.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL, STDOUT, Popen
from types import FrameType
from typing import Any

from flowpp.config import Config
from flowpp.config.serialization import from_dict, to_dict
from flowpp.runs.run import Run
from flowpp.runtime.bounded import read_json
from flowpp.runtime.files import write_json

from .plan import Row

LARGEST = 1 << 20
"""Upper bound on the size of a file of settings, in bytes."""
TRAINING = (
    "threads device log_every evaluate_every checkpoint_every checkpoint_minutes sample_count"
)
SAME_RESULT = (
    ("preset",), ("description",), ("data", "path"), *(("training", n) for n in TRAINING.split())
)  # fmt: skip
"""Settings that may differ from those that a run was started with."""
COMMAND = (sys.executable, "-m", "flowpp.train")
STOPPED = (128 + signal.SIGINT, 128 + signal.SIGTERM)
"""Exit statuses of a run that has been stopped and saved."""


@dataclass(frozen=True)
class Task:
    """One run of a row.

    Args:
        row: Its row.
        seed: Its seed.
        out: Folder of the plan.
    """

    row: Row
    seed: int
    out: Path

    @property
    def path(self) -> Path:
        """Run directory."""
        return self.out / self.row.folder / f"seed-{self.seed}"

    @property
    def finished(self) -> bool:
        """Whether the run has ended with a result."""
        return (self.path / "result.json").is_file()

    @property
    def failure(self) -> str | None:
        """Error that its last attempt ended with; None if it has not failed."""
        return None if self.finished else self._recorded().get("failure")

    def check(self) -> None:
        """Require the settings that the run was started with, if it was.

        A run directory from elsewhere may be put in place of one that is started here.

        Raises:
            ValueError: Other settings; the message names them.
        """
        recorded = self._recorded().get("config")
        if recorded is not None:
            former = from_dict(Config, recorded)
        elif (self.path / "config.json").is_file():
            former = Run.open(self.path).config()
        else:
            return
        wanted = self.row.seeded(self.seed)
        if changed := _differences(_compared(former), _compared(wanted)):
            raise ValueError(
                f"{self.path} was started with other settings: {'; '.join(changed)}. Give the row "
                f"another name, or remove the folder {self.path.parent}"
            )

    def record(self, failure: str | None = None) -> None:
        """Write the settings, and the error of a run that has failed."""
        config = to_dict(self.row.seeded(self.seed))
        write_json(self._file(".json"), {"config": config, "failure": failure})

    def run(self, started: Callable[[Popen[bytes]], None]) -> str | None:
        """Train until the end; return the error, or None.

        Args:
            started: Called with the process.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.record()
        command = [*COMMAND, *self.row.arguments(self.seed), "--out", str(self.path)]
        command += ["--resume", "auto"]
        with open(self._file(".log"), "ab") as log:
            begin = log.tell()
            process = Popen(command, stdin=DEVNULL, stdout=log, stderr=STDOUT)
            started(process)
            status = process.wait()
        if status == 0:
            return None
        if status in STOPPED:
            return "stopped"
        error = self._last_line(begin) or f"exit status {status}"
        self.record(error)
        return error

    def _file(self, suffix: str) -> Path:
        return self.path.with_name(self.path.name + suffix)

    def _recorded(self) -> dict[str, Any]:
        try:
            value = read_json(self._file(".json"), LARGEST)
        except FileNotFoundError:
            return {}
        return value if isinstance(value, dict) else {}

    def _last_line(self, begin: int) -> str:
        with open(self._file(".log"), "rb") as log:
            log.seek(begin)
            lines = log.read().decode("utf-8", "replace").split("\n")
        lines = [line.strip() for line in lines if line.strip()]
        errors = [line for line in lines if line.startswith("error: ")]
        return (errors or lines or [""])[-1]


def tasks(rows: Sequence[Row], out: Path) -> list[Task]:
    """Return all runs: the first seed of every row, then the second ones, and so on."""
    longest = max((len(row.seeds) for row in rows), default=0)
    return [
        Task(row, row.seeds[index], out)
        for index in range(longest)
        for row in rows
        if index < len(row.seeds)
    ]


def run_all(
    wanted: Sequence[Task], jobs: int, report: Callable[[Task, str | None], None]
) -> list[str]:
    """Run what has not finished; return the errors.

    SIGTERM and Ctrl-C end the runs in progress, which save their state, and start no others.

    Args:
        wanted: Runs, in this order.
        jobs: Number of processes at a time.
        report: Called after each run with its error or None, from one thread at a time.
    """
    processes: list[Popen[bytes]] = []
    stopping, lock = threading.Event(), threading.Lock()
    errors: list[str] = []

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopping.set()
        for process in processes:
            if process.poll() is None:
                process.terminate()

    def run(task: Task) -> None:
        if stopping.is_set():
            return
        error = task.run(processes.append)
        with lock:
            if error is not None:
                errors.append(f"{task.path}: {error}")
            report(task, error)

    former = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with ThreadPoolExecutor(jobs) as pool:
            for future in [pool.submit(run, task) for task in wanted if not task.finished]:
                future.result()
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
    if stopping.is_set() and not errors:
        errors.append("stopped")
    return errors


def _compared(config: Config) -> dict[str, Any]:
    values = to_dict(config)
    for *parents, name in SAME_RESULT:
        inner = values
        for parent in parents:
            inner = inner[parent]
        del inner[name]
    return values


def _differences(former: dict[str, Any], wanted: dict[str, Any], path: str = "") -> list[str]:
    """Return a text for each setting that differs."""
    found: list[str] = []
    for name, value in wanted.items():
        if isinstance(value, dict):
            found += _differences(former[name], value, f"{path}{name}.")
        elif former[name] != value:
            found.append(f"{path}{name} was {former[name]!r}, the plan has {value!r}")
    return found
