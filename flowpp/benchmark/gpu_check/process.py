"""A command in a process of its own, with a time limit and a log."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

GRACE_SECONDS = 5.0
"""Time between Ctrl-C's signal, after which pytest still writes its results, and SIGKILL."""
TAIL_LINES = 15
TAIL_BYTES = 1 << 16
LONGEST_LINE = 400


@dataclass(frozen=True)
class Ended:
    """End of a process.

    Args:
        status: Exit status; negative for the signal that ended it.
        seconds: Time from its start.
        timed_out: Whether it reached its time limit.
        tail: Last lines of its output.
    """

    status: int
    seconds: float
    timed_out: bool
    tail: list[str]

    @property
    def error(self) -> str | None:
        """Reason for a failure in one line; None after success."""
        if self.timed_out:
            return f"stopped at its time limit after {self.seconds:.0f} s"
        if self.status < 0:
            return f"ended by {signal.Signals(-self.status).name}"
        if self.status:
            return self.tail[-1] if self.tail else f"exit status {self.status}"
        return None


def run(
    command: Sequence[str],
    *,
    log: Path,
    seconds: float,
    folder: Path,
    environment: Mapping[str, str],
) -> Ended:
    """Run a command, at most for `seconds`, with its output in `log`.

    At the time limit the process and all that it started are ended.
    """
    start = time.monotonic()
    with open(log, "wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=dict(environment),
            start_new_session=True,  # a group of its own, to be ended as a whole
        )
        try:
            process.wait(seconds)
            timed_out = False
        except subprocess.TimeoutExpired:
            timed_out = True
        finally:
            end_group(process)
    return Ended(process.returncode, time.monotonic() - start, timed_out, tail(log))


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End a process that leads a group, and what it started: politely, then for certain."""
    for number, wait in ((signal.SIGINT, GRACE_SECONDS), (signal.SIGKILL, None)):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(wait)
        except subprocess.TimeoutExpired:
            continue
    process.wait()


def tail(log: Path) -> list[str]:
    """Return the last lines of a log that are not empty."""
    with open(log, "rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - TAIL_BYTES))
        text = file.read().decode(errors="replace")
    # Progress bars return to the start of the line.
    lines = [line.rsplit("\r", 1)[-1].rstrip() for line in text.splitlines()]
    return [line[:LONGEST_LINE] for line in lines if line][-TAIL_LINES:]
