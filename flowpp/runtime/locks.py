"""Locks of files, which the system releases when the process ends."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


def open_lock(path: Path) -> IO[bytes]:
    """Open a lock file, and create it if needed.

    Raises:
        OSError: The file cannot be created or opened.
        ValueError: `path` is a link, a FIFO or another thing that is not a file.
    """
    # A link could lead to a file of the reader's own; a FIFO would wait for another process.
    flags = os.O_RDWR | os.O_CREAT
    for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"):
        flags |= getattr(os, name, 0)
    if path.is_symlink():
        raise ValueError(f"{path} must be a regular file, got a link")
    file = os.fdopen(os.open(path, flags, 0o666), "rb+", buffering=0)
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise ValueError(f"{path} must be a regular file, got a FIFO or a device")
    return file


def try_lock(file: IO[bytes], *, wait: bool = False) -> bool | None:
    """Take the lock of an open file.

    Args:
        file: The lock file.
        wait: Whether to wait while another process holds the lock.

    Returns:
        False if another process holds it; None where the system or file system has no locks.
    """
    if fcntl is None:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True
