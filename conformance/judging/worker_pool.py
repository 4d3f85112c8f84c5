"""Going through a plan: in this process, or in workers that may hang, crash and be killed.

An alarm ends what hangs in Python (`hanging`). What hangs inside one call of C, ends the process,
or eats all memory takes the worker with it: the cell gets a line that says so, and another worker
goes on with the next.

Several workers share a plan by the laws of a case at a dtype, which share their work. Cells come
in the plan's order, and whatever depends on cells before is decided in that order, so the report
is the same for any number of workers.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import Any

from conformance.judging.options import Options
from conformance.judging.plan import AnyCase
from conformance.judging.result import Result, from_json
from conformance.laws import Law

GRACE = 10.0
"""Seconds that a worker has after its own alarm has rung."""
START = 300.0
"""Seconds that a worker may take to import an adapter."""
PATIENCE = 3
"""After so many cases that hang or crash, and none that answered, the others are not tried."""

Plan = Sequence[tuple[AnyCase, Law, str]]


def judge_in_process(options: Options, plan: Plan) -> Iterator[Result]:
    """One cell after the other. What hangs in C, or ends the process, ends the run.

    Raises:
        ValueError: there is no such adapter, or it refuses the device.
    """
    judge = options.judge()
    lost = CrashLog()
    for one in plan:
        cell = lost.not_tried(one) or judge.judge(*one)
        lost.heard(cell)
        yield cell


def judge_in_workers(options: Options, plan: Plan, jobs: int = 1) -> Iterator[Result]:
    """The same from `jobs` processes.

    Raises:
        ValueError: there is no such adapter, or it refuses the device.
    """
    lost, lanes = CrashLog(), WorkerPool(options)
    groups = [list(group) for _, group in groupby(plan, key=lambda one: (one[0].name, one[2]))]
    with ThreadPoolExecutor(jobs) as pool:
        try:
            judged = [pool.submit(lanes.judge, group) for group in groups]
            for group, future in zip(groups, judged, strict=True):
                cells: Iterator[Result] | None = None
                for one in group:
                    cell = lost.not_tried(one)
                    if cell is None:
                        cells = cells or iter(future.result())
                        cell = next(cells)
                        lost.heard(cell)
                    yield cell
        finally:
            lanes.end()
            pool.shutdown(cancel_futures=True)
            lanes.close()


class WorkerPool:
    """A worker for each thread that asks, and a new one where it was lost."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._mine = threading.local()
        self._lock = threading.Lock()
        self._workers: set[Worker] = set()
        self._ended = False

    def judge(self, group: Plan) -> list[Result]:
        """Cells of one case and dtype, up to one that is lost: the others are not tried."""
        cells = []
        for one in group:
            cells.append(self._worker().judge(one))
            if cells[-1].message.startswith(LOST):
                break
        return cells

    def end(self) -> None:
        """Kill all workers, whatever they are doing: whoever waits for one hears that it ended."""
        with self._lock:
            self._ended = True
            for worker in self._workers:
                worker.kill()

    def close(self) -> None:
        """Close them, when nobody waits any more."""
        for worker in self._workers:
            worker.close()

    def _worker(self) -> Worker:
        worker = getattr(self._mine, "worker", None)
        if worker is not None and worker.alive:
            return worker
        with self._lock:
            if self._ended:
                raise RuntimeError("no cells are wanted any more")
            self._workers.discard(worker)
            if worker is not None:
                worker.close()
            self._mine.worker = Worker(self._options)
            self._workers.add(self._mine.worker)
        return self._mine.worker


class CrashLog:
    """Remembers what hung or crashed: a case that did is not tried under the other laws."""

    def __init__(self) -> None:
        self._cases: dict[tuple[str, str], str] = {}
        self._answered = False

    def heard(self, cell: Result) -> None:
        key = (cell.case, cell.dtype)
        if cell.status == "fails" and cell.message.startswith(LOST):
            self._cases.setdefault(key, cell.law)
        elif key not in self._cases and cell.status in ("holds", "fails"):
            self._answered = self._answered or len(self._cases) < PATIENCE

    def not_tried(self, one: tuple[AnyCase, Law, str]) -> Result | None:
        """The cell of what is not tried any more."""
        case, law, dtype = one
        if (case.name, dtype) in self._cases:
            reason = f"not tried: it was lost under {self._cases[case.name, dtype]}"
        elif len(self._cases) >= PATIENCE and not self._answered:
            names = ", ".join(name for name, _ in list(self._cases)[:PATIENCE])
            reason = f"not tried: the first {PATIENCE} cases were all lost ({names})"
        else:
            return None
        return Result(case.name, law.name, dtype, "fails", message=reason)


LOST = ("no answer within", "the process ended")


class Worker:
    """A child process that judges one cell after the other."""

    def __init__(self, options: Options) -> None:
        self._timeout = options.timeout
        receiving, sending = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "conformance.judging.worker", str(sending)],
            stdin=subprocess.PIPE,
            stdout=2,  # stderr: what an adapter prints is not the report
            pass_fds=[sending],
            start_new_session=True,
            bufsize=0,
        )
        os.close(sending)
        self._pipe, self._buffer = receiving, b""
        self._selector = selectors.DefaultSelector()
        self._selector.register(receiving, selectors.EVENT_READ)
        self.alive = True
        self._started = False
        self._tell(vars(options))

    def judge(self, one: tuple[AnyCase, Law, str]) -> Result:
        """This cell, or one that says what became of it.

        Raises:
            ValueError: there is no such adapter, or it refuses the device.
        """
        case, law, dtype = one
        name = (case.name, law.name, dtype)
        start = time.perf_counter()
        self._tell(name)
        if not self._started:
            message = self._message(START)
            if message is None:
                return Result(*name, "fails", message=self._what_happened(start, START))
            if "refused" in message:
                self.kill()
                raise ValueError(message["refused"])
            self._started = True
        limit = None if self._timeout is None else self._timeout + GRACE
        message = self._message(limit)
        if message is None:
            return Result(*name, "fails", message=self._what_happened(start, limit))
        return from_json(message["cell"])

    def kill(self) -> None:
        """End the process, and with it whatever it has started."""
        self.alive = False
        if self._process.poll() is None:
            try:
                os.killpg(self._process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self._process.wait()

    def close(self) -> None:
        """End the process and close what it was heard through."""
        self.kill()
        self._selector.close()
        os.close(self._pipe)
        assert self._process.stdin is not None
        self._process.stdin.close()

    def _tell(self, line: Any) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write((json.dumps(line) + "\n").encode())
        except BrokenPipeError:
            pass  # it has ended already: that no answer comes will say so

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
            self.kill()
            return f"no answer within {limit:g} seconds: the process had to be killed"
        ended = f"by {signal.Signals(-code).name}" if code < 0 else f"with status {code}"
        return f"the process ended {ended} after {time.perf_counter() - start:.1f} seconds"
