"""A worker process that judges cells and may hang, crash or run out of memory."""

from __future__ import annotations

import os
import signal
import threading
import time
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

from conformance.cases import CASES
from conformance.judging.case_warnings import named_warnings
from conformance.judging.crash_log import NO_ANSWER, PROCESS_ENDED
from conformance.judging.options import Options
from conformance.judging.plan import Planned
from conformance.laws import LAWS
from conformance.reports.result import Result

GRACE = 10.0
"""Seconds after the judge's own time limit before the process is killed."""
START = 300.0
"""Time limit in seconds for starting a process, importing the adapter and preparing it."""
END = 1.0
"""Seconds that a process may take to end after it has closed its connection."""


class Worker:
    """One worker process, replaced after it crashed or was killed.

    It is a `multiprocessing.Process`, not an executor's, because a call and the start of the
    process need time limits of their own, the exit code of a crash is reported, and whatever the
    adapter has started is killed too. `concurrent.futures` and `loky` cannot end a process on a
    time limit. `pebble` can, but has no limit for the start, leaves the adapter's children
    running, and on `stop` never resolves the futures that other threads wait for.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        self._process: Any = None
        self._connection: Any = None
        self._closed = False
        self._lock = threading.Lock()

    def judge(self, planned: Planned) -> Result:
        """Return the result of a cell, or one that says how the process was lost.

        Raises:
            ValueError: The adapter does not exist, or refuses the device or every dtype.
        """
        case, law, dtype = planned
        names = (case.name, law.name, dtype)
        started = time.perf_counter()
        limit: float | None = START
        try:
            if self._process is None:
                self._start()
                refusal = self._receive(limit)
                if refusal is not None:
                    raise ValueError(refusal)
            limit = None if self._options.timeout is None else self._options.timeout + GRACE
            self._connection.send(names)
            return self._receive(limit)
        except (TimeoutError, EOFError, ConnectionError):
            message = self._describe_end(limit, started)
        self._kill()
        return Result(*names, "fails", message=message)

    def close(self) -> None:
        """Kill the process, from any thread: a call that waits for it returns a lost result."""
        with self._lock:
            self._closed = True
            _kill_group(self._process)

    def _start(self) -> None:
        context = get_context("spawn")  # threads of torch do not survive a fork
        with self._lock:
            if self._closed:
                raise RuntimeError("the worker is closed")
            # The process inherits the blocked signal: an interrupt is for this process, which
            # then kills its workers.
            if hasattr(signal, "pthread_sigmask"):
                signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            self._connection, theirs = context.Pipe()
            self._process = context.Process(target=_serve, args=(theirs, self._options))
            self._process.start()
        theirs.close()

    def _receive(self, limit: float | None) -> Any:
        if not self._connection.poll(limit):
            raise TimeoutError
        return self._connection.recv()

    def _describe_end(self, limit: float | None, started: float) -> str:
        self._process.join(END)
        elapsed = time.perf_counter() - started
        code = self._process.exitcode
        if code is None:
            seconds = elapsed if limit is None else limit
            return f"{NO_ANSWER} {seconds:g} seconds: the process had to be killed"
        ended = f"by {signal.Signals(-code).name}" if code < 0 else f"with status {code}"
        return f"{PROCESS_ENDED} {ended} after {elapsed:.1f} seconds"

    def _kill(self) -> None:
        with self._lock:
            _kill_group(self._process)
            self._process = None
        self._connection.close()


def _kill_group(process: Any) -> None:
    """Kill a process and all processes of its group: those that the adapter has started."""
    if process is None:
        return
    try:
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:  # Windows, which has no groups: what the adapter has started may survive
            process.kill()
    except (ProcessLookupError, PermissionError):  # macOS raises the latter for an ended leader
        process.kill()  # it does not lead its group yet, or has already ended
    process.join()


def _serve(connection: Connection, options: Options) -> None:
    """Judge cells by name until the connection is closed; runs in the worker process.

    The first message is None, or the reason why no cell can be judged.
    """
    if hasattr(os, "setsid"):
        os.setsid()
    os.dup2(2, 1)  # what an adapter prints must not enter the report on standard output
    try:
        judge = options.judge()
    except ValueError as error:
        connection.send(str(error))
        return
    connection.send(None)
    while True:
        try:
            case, law, dtype = connection.recv()
        except EOFError:
            return
        with named_warnings(f"{case} | {law} | {dtype}"):
            result = judge.judge(CASES[case], LAWS[law], dtype)
        connection.send(result)
