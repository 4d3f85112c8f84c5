"""Standard output that its reader may close early, as `head` does."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def exit_on_broken_pipe() -> Iterator[None]:
    """Exit with status 1 and no traceback if the reader of standard output has closed it."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes once more at exit, which must not fail again: see "Note on SIGPIPE" in the
        # documentation of its module signal.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except KeyboardInterrupt:  # such as during the imports
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None
