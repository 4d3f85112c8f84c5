"""SIGTERM and SIGINT: finish the step, save, then exit."""

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
"""Seconds after which a signal counts as a second one: torchrun and the terminal may both deliver
the same Ctrl-C."""


class TrainingInterrupted(Exception):  # not an error, hence the name
    """Training stopped by a signal, with its state saved.

    Args:
        number: The signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number


class DeferredSignals:
    """Defer the first SIGTERM or SIGINT inside the block; raise on the second.

    Outside the main thread signals cannot be caught and keep their usual effect.

    Attributes:
        received: The deferred signal, if any.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._received_at = 0.0
        self._immediate = False
        self._former: dict[int, Any] = {}

    def __enter__(self) -> DeferredSignals:
        """Install the handlers."""
        if threading.current_thread() is threading.main_thread():
            self._former = {number: signal.signal(number, self._handle) for number in SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Restore the former handlers."""
        for number, handler in self._former.items():
            signal.signal(number, handler)

    @contextmanager
    def immediate(self) -> Iterator[None]:
        """Raise at once on a signal inside the block, where there is nothing to save.

        Raises:
            TrainingInterrupted: A signal was received before or is received inside the block.
        """
        if self.received is not None:
            raise TrainingInterrupted(self.received)
        self._immediate = True
        try:
            yield
        finally:
            self._immediate = False

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        is_second = (
            self.received is not None and time.monotonic() - self._received_at > REPEATED_AFTER
        )
        if self._immediate or is_second:
            raise TrainingInterrupted(number)
        if self.received is None:
            self.received, self._received_at = number, time.monotonic()
