"""How fast a run learns, without the time it spends on being watched."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Pace:
    """Steps per second since it was last asked.

    Args:
        step: how many steps are done.
    """

    def __init__(self, step: int) -> None:
        self._step = step
        self._since = time.perf_counter()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """The time inside the block does not count."""
        began = time.perf_counter()
        yield
        self._since += time.perf_counter() - began

    def steps_per_second(self, step: int) -> float:
        """From the step of the last call, or of the start, to this one."""
        now = time.perf_counter()
        pace = (step - self._step) / (now - self._since)
        self._step, self._since = step, now
        return pace
