"""Notes on standard error about what a user would not expect, once in a process."""

from __future__ import annotations

import sys

from flowpp.runtime.distributed import is_first_process

_noted: set[str] = set()


def note_once(topic: str, line: str) -> None:
    """Print a line on standard error, the first of its topic; of several processes, one prints.

    Args:
        topic: Further lines of this topic are left out.
        line: The note.
    """
    if topic not in _noted and is_first_process():
        print(line, file=sys.stderr, flush=True)
    _noted.add(topic)
