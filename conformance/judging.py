"""Going through a plan: in this process, or in one of its own that may hang, crash and be killed.

An alarm ends what hangs in Python (`hanging`). What hangs inside one call of C, ends the process,
or eats all memory takes the worker with it: the cell gets a line that says so, and another worker
goes on with the next.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .adapter import load
from .cell import Cell, from_json
from .laws import Law
from .runner import AnyCase, Judge

GRACE = 10.0
"""Seconds that a worker has after its own alarm has rung."""
START = 300.0
"""Seconds that a worker may take to import an adapter."""
PATIENCE = 3
"""After so many cases in a row that hang or crash the others are not tried."""

Plan = Sequence[tuple[AnyCase, Law, str]]


@dataclass(frozen=True)
class Options:
    """What is judged, and how. See `Judge`."""

    adapter: str
    seed: int = 0
    device: str = "cpu"
    examples: int = 1
    timeout: float | None = 60.0


def in_this_process(options: Options, plan: Plan) -> Iterator[Cell]:
    """One cell after the other. What hangs in C, or ends the process, ends the run.

    Raises:
        ValueError: there is no such adapter.
    """
    judge = Judge(
        load(options.adapter),
        seed=options.seed,
        device=options.device,
        examples=options.examples,
        timeout=options.timeout,
        name=options.adapter,
    )
    lost = Lost()
    for one in plan:
        cell = lost.not_tried(one) or judge.cell(*one)
        lost.heard(cell)
        yield cell


def in_a_worker(options: Options, plan: Plan) -> Iterator[Cell]:
    """The same from a process of its own.

    Raises:
        ValueError: there is no such adapter.
    """
    lost = Lost()
    done = 0
    while done < len(plan):
        cell = lost.not_tried(plan[done])
        if cell is not None:
            done += 1
            yield cell
            continue
        with Worker(options, plan[done:]) as worker:
            while done < len(plan) and lost.not_tried(plan[done]) is None:
                cell = worker.cell(plan[done])
                lost.heard(cell)
                done += 1
                yield cell
                if not worker.alive:
                    break


class Lost:
    """Remembers what hung or crashed: a case that did is not tried under the other laws."""

    def __init__(self) -> None:
        self._cases: dict[tuple[str, str], str] = {}
        self._in_a_row: list[tuple[str, str]] = []

    def heard(self, cell: Cell) -> None:
        key = (cell.case, cell.dtype)
        if cell.status == "fails" and cell.message.startswith(LOST):
            self._cases.setdefault(key, cell.law)
            if key not in self._in_a_row:
                self._in_a_row.append(key)
        elif key not in self._cases and cell.status in ("holds", "fails"):
            if len(self._in_a_row) < PATIENCE:
                self._in_a_row.clear()

    def not_tried(self, one: tuple[AnyCase, Law, str]) -> Cell | None:
        """The cell of what is not tried any more."""
        case, law, dtype = one
        if (case.name, dtype) in self._cases:
            reason = f"not tried: it was lost under {self._cases[case.name, dtype]}"
        elif len(self._in_a_row) >= PATIENCE:
            names = ", ".join(name for name, _ in self._in_a_row)
            reason = f"not tried: {PATIENCE} cases in a row were lost ({names})"
        else:
            return None
        return Cell(case.name, law.name, dtype, "fails", message=reason)


LOST = ("no answer within", "the process ended")


class Worker:
    """A child process that judges a plan from its beginning."""

    def __init__(self, options: Options, plan: Plan) -> None:
        self._timeout = options.timeout
        receiving, sending = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "conformance.worker", str(sending)],
            stdin=subprocess.PIPE,
            stdout=2,  # stderr: what an adapter prints is not the report
            pass_fds=[sending],
            start_new_session=True,
            text=True,
        )
        os.close(sending)
        self._pipe, self._buffer = receiving, b""
        self._selector = selectors.DefaultSelector()
        self._selector.register(receiving, selectors.EVENT_READ)
        task = vars(options) | {"cells": [(c.name, law.name, dtype) for c, law, dtype in plan]}
        self.alive = True
        self._started = False
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(task))
            self._process.stdin.close()
        except BrokenPipeError:
            pass  # it has ended already: the first cell will say so

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *error: object) -> None:
        self._end()
        self._selector.close()
        os.close(self._pipe)

    def cell(self, one: tuple[AnyCase, Law, str]) -> Cell:
        """The next cell of the plan, or one that says what became of it."""
        case, law, dtype = one
        name = (case.name, law.name, dtype)
        start = time.perf_counter()
        if not self._started:
            message = self._message(START)
            if message is None:
                return Cell(*name, "fails", message=self._what_happened(start, START))
            if "refused" in message:
                self._end()
                raise ValueError(message["refused"])
            self._started = True
        limit = None if self._timeout is None else self._timeout + GRACE
        message = self._message(limit)
        if message is None:
            return Cell(*name, "fails", message=self._what_happened(start, limit))
        return from_json(message["cell"])

    def _message(self, seconds: float | None) -> dict[str, Any] | None:
        """The next line; None if none comes in time, or none can come."""
        end = None if seconds is None else time.monotonic() + seconds
        while b"\n" not in self._buffer:
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0 or not self._selector.select(left):
                return None
            more = os.read(self._pipe, 1 << 16)
            if not more:
                return None
            self._buffer += more
        line, self._buffer = self._buffer.split(b"\n", 1)
        return json.loads(line)

    def _what_happened(self, start: float, limit: float | None) -> str:
        """After no message came: killed if it still runs."""
        self.alive = False
        try:
            code = self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            self._end()
            return f"no answer within {limit:g} seconds: the process had to be killed"
        ended = f"by {signal.Signals(-code).name}" if code < 0 else f"with status {code}"
        return f"the process ended {ended} after {time.perf_counter() - start:.1f} seconds"

    def _end(self) -> None:
        self.alive = False
        if self._process.poll() is None:
            try:
                os.killpg(self._process.pid, signal.SIGKILL)  # with whatever it has started
            except ProcessLookupError:
                pass
        self._process.wait()
