"""A time limit on Python code, by an alarm signal.

Worker processes have a limit of their own, enforced from outside (`conformance.judging.worker`).
This one ends a Python loop at lower cost, because the process survives; and it is the only one
where no worker process exists: under `--in-process` and under pytest.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

REPEAT = 0.5
"""Seconds between alarms after the first: code that swallows one exception meets the next."""
SOON = 1e-3
"""Seconds until an alarm that became due inside the block; 0 would mean none."""


class TimeLimitExceeded(BaseException):
    """Raised on timeout. Derives from BaseException so that adapters cannot swallow it."""


@contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Raise `TimeLimitExceeded` in the body if it takes longer.

    Code inside a single C call is not interrupted. None or 0 sets no limit, and neither does a
    call outside the main thread or on a system without alarm signals. A timer that runs already,
    such as pytest-timeout's, is set again afterwards.
    """
    alarms = hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()
    if not seconds or not alarms:
        yield
        return

    def on_alarm(number: int, frame: FrameType | None) -> None:
        raise TimeLimitExceeded

    previous = signal.signal(signal.SIGALRM, on_alarm)
    start = time.monotonic()
    remaining, interval = signal.setitimer(signal.ITIMER_REAL, seconds, REPEAT)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, previous)
        if remaining:
            remaining = max(remaining - (time.monotonic() - start), SOON)
            signal.setitimer(signal.ITIMER_REAL, remaining, interval)
