"""Temporary folders for files that are written and then renamed.

Everything that is written on the way, by a library too, lies in one folder beside the file. A
lock, held while it is in use, tells it from the remains of a process that was killed.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from flowpp.runtime.locks import open_lock, try_lock

SUFFIX = ".part"
LOCK = "lock"
ATTEMPTS = 10
UNLOCKED_SECONDS = 60.0
"""Age from which on files without a lock file beside them count as abandoned."""
SYSTEM_WITHOUT_LOCKS_SECONDS = 86_400.0
"""Age from which on a folder counts as abandoned where there are no locks."""
FORMER = re.compile(r"\..+\.(\d+)\.part")
"""Temporary files of version 0.1.0, with the number of the process."""
OF_SAFETENSORS = re.compile(r"\.tmp[A-Za-z0-9]{6}")
"""Temporary files that safetensors makes beside the file it writes."""


@contextmanager
def scratch_folder(target: Path) -> Iterator[Path]:
    """Yield a locked, empty folder beside `target`, and remove it after the block.

    The remains of killed processes that were writing `target` are removed, too.

    Raises:
        OSError: The folder cannot be created; the message names `target`.
    """
    prefix = _prefix(target)
    sweep(target.parent, prefix)
    folder, lock = _claimed(target, prefix)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.close()


def sweep(folder: Path, prefix: str = ".") -> None:
    """Remove what killed processes have left in a folder; nothing that is in use.

    Args:
        folder: Folder that `scratch_folder` was used in; it may be missing.
        prefix: Beginning of the names to remove.
    """
    for name in _names(folder):
        if name.startswith(prefix) and name.endswith(SUFFIX):
            # It may be another user's, or something else that only has such a name.
            with contextlib.suppress(OSError, ValueError):
                _remove_if_abandoned(folder / name)


def sweep_after_safetensors(folder: Path) -> None:
    """Remove the temporary files of safetensors in a folder that no process is writing to.

    Version 0.1.0 let safetensors make them there.
    """
    for name in _names(folder):
        path = folder / name
        with contextlib.suppress(OSError):
            if OF_SAFETENSORS.fullmatch(name) and path.is_file() and not path.is_symlink():
                path.unlink()


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _prefix(target: Path) -> str:
    return f".{target.name[:50]}."  # names of files are limited to 255 bytes


def _claimed(target: Path, prefix: str) -> tuple[Path, IO[bytes]]:
    for _ in range(ATTEMPTS):
        try:
            folder = Path(tempfile.mkdtemp(SUFFIX, prefix, target.parent))
        except OSError as error:  # its message names the temporary folder
            raise type(error)(error.errno, error.strerror, str(target)) from error
        try:
            lock = open_lock(folder / LOCK)
        except FileNotFoundError:
            continue  # another process has taken the folder for abandoned
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise type(error)(error.errno, error.strerror, str(target)) from error
        if try_lock(lock) is not False and (folder / LOCK).exists():
            return folder, lock
        lock.close()
    raise OSError(f"no temporary folder for {target} can be locked")


def _remove_if_abandoned(path: Path) -> None:
    if path.is_symlink() or not path.is_dir():
        former = FORMER.fullmatch(path.name)
        if former and not _is_running(int(former[1])):
            path.unlink(missing_ok=True)
        return
    if not (path / LOCK).exists():
        try:
            path.rmdir()  # if it is empty; a process that is about to lock it makes another
        except OSError:
            _remove_if_older(path, UNLOCKED_SECONDS)
        return
    with open_lock(path / LOCK) as lock:
        free = try_lock(lock)
        if free:
            shutil.rmtree(path, ignore_errors=True)
        elif free is None:
            _remove_if_older(path, SYSTEM_WITHOUT_LOCKS_SECONDS)


def _remove_if_older(path: Path, seconds: float) -> None:
    if time.time() - path.lstat().st_mtime > seconds:
        shutil.rmtree(path, ignore_errors=True)


def _is_running(process: int) -> bool:
    if os.name != "posix":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # of another user; no process's number
        return True
    return True
