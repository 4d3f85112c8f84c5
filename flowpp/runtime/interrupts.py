"""Exit at once on Ctrl-C while a command is being imported."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType

EXIT_STATUS = 128 + signal.SIGINT
IMPORTING = "<frozen importlib._bootstrap>"
_main_has_begun = False


def exit_at_once_while_importing() -> None:
    """Let Ctrl-C end the process at once while modules are imported.

    An exception there may be swallowed by a module that guards its own imports, or abort the
    process in C++ code. Elsewhere Ctrl-C raises KeyboardInterrupt, as usual.
    """
    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if usual and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, _handle)


def note_that_main_begins() -> None:
    """Mark the end of the imports at the head of a command's module."""
    global _main_has_begun  # noqa: PLW0603  # one process has one command
    _main_has_begun = True


def _handle(number: int, frame: FrameType | None) -> None:
    if _main_has_begun and not _is_importing(frame):
        signal.default_int_handler(number, frame)
    sys.stdout.flush()
    print("interrupted", file=sys.stderr, flush=True)
    os._exit(EXIT_STATUS)


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == IMPORTING:
            return True
        frame = frame.f_back
    return False
