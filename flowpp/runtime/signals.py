"""SIGTERM and SIGINT: finish the step, save, leave."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)
REPEATED_AFTER = 1.0
"""Seconds: torchrun and the terminal may both deliver one and the same Ctrl-C."""


class TrainingInterrupted(Exception):  # not an error: no such name
    """The run was asked to stop, and its state is on disk."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number


class DeferredSignals:
    """Inside the block the first signal is noted; a second one stops at once.

    Outside the main thread signals cannot be caught, and keep their usual effect.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._noted = 0.0
        self._immediate = False
        self._former: dict[int, Any] = {}

    def __enter__(self) -> DeferredSignals:
        """Take the signals."""
        if threading.current_thread() is threading.main_thread():
            self._former = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give them back."""
        for number, handler in self._former.items():
            signal.signal(number, handler)

    @contextmanager
    def immediate(self) -> Iterator[None]:
        """Inside the block there is nothing to save, so that a signal stops it where it is.

        Raises:
            TrainingInterrupted: a signal has come, or comes.
        """
        if self.received is not None:
            raise TrainingInterrupted(self.received)
        self._immediate = True
        try:
            yield
        finally:
            self._immediate = False

    def _note(self, number: int, _frame: FrameType | None) -> None:
        repeated = self.received is not None and time.monotonic() - self._noted > REPEATED_AFTER
        if self._immediate or repeated:
            raise TrainingInterrupted(number)
        if self.received is None:
            self.received, self._noted = number, time.monotonic()
