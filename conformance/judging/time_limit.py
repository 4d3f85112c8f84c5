"""A limit on the time that a piece of Python may take, by an alarm of the operating system."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class TimeLimitExceeded(BaseException):
    """The time is over. Not an Exception, so that no `except Exception` in between eats it."""


@contextmanager
def limit(seconds: float | None) -> Iterator[None]:
    """Raise `TimeLimitExceeded` in the body if it takes longer.

    It reaches whatever returns to the interpreter now and then. Code that hangs inside one call of
    C is beyond it: for that the command line judges in a process of its own, which can be killed.
    Without a limit, in a thread that is not the main one, or on a system without alarms, it does
    nothing.
    """
    alarms = hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()
    if not seconds or not alarms:
        yield
        return

    def ring(number: int, frame: FrameType | None) -> None:
        # It rings again: an implementation that swallows everything gets no rest.
        raise TimeLimitExceeded

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds, 0.5)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
