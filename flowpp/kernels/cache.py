"""Cache of compiled kernels: verified before use, written whole, built by one process at a time.

Beside each file is its hash. A file that was truncated, damaged or replaced does not match it and
is built anew, as is one whose hash is missing.
"""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from flowpp.runtime.files import cache_folder, flush
from flowpp.runtime.notes import note_once

REBUILD = "FLOWPP_REBUILD"
"""Environment variable; if set, kernels are compiled although the cache has them."""
PATIENCE = 700.0
"""Seconds to wait for another process that builds the same kernels."""
UNNOTED = 1.0
"""Seconds to wait before a line says so."""
SPACE = 16 << 20
"""Bytes that a compilation needs for its temporary files; with less, it may fail silently."""
LONGEST_HASH = 128


class CacheError(OSError):
    """Raised where the cache cannot be written, or another process does not release it."""


def folder() -> Path:
    """Return the folder of the cache.

    Raises:
        CacheError: The user has no home folder.
    """
    try:
        return cache_folder()
    except RuntimeError as error:
        raise CacheError(f"no home folder for the cache: {error}") from error


def is_intact(path: Path) -> bool:
    """Return whether a file of the cache has the content that was written."""
    try:
        with open(_hash_file(path), encoding="ascii") as file:
            expected = file.read(LONGEST_HASH)
        return expected == _hash(path)
    except (OSError, ValueError):
        return False


def wants_rebuild() -> bool:
    """Return whether the user asks for kernels to be compiled anew."""
    return os.environ.get(REBUILD, "") not in ("", "0")


def is_nearly_full(folder: Path) -> bool:
    """Return whether the file system of a folder has too little space for a compilation."""
    try:
        return shutil.disk_usage(folder).free < SPACE
    except OSError:
        return False


def must_build(target: Path, since: float = math.inf) -> bool:
    """Return whether a file of the cache is missing or damaged, or the user wants a new one.

    Args:
        target: The file.
        since: Time from which on a file, built by another process, counts as new.
    """
    if not is_intact(target):
        return True
    return wants_rebuild() and target.stat().st_mtime < since


@contextmanager
def exclusive(target: Path, topic: str) -> Iterator[Path]:
    """Yield a new folder beside `target` to build in; one process at a time is in the block.

    Leftovers of killed processes are removed. Errors of the block itself pass through unchanged.

    Args:
        target: File to be built.
        topic: Name of what is built; builds of other topics may run at the same time.

    Raises:
        CacheError: The folder cannot be created, written or locked.
    """
    lock = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if is_nearly_full(target.parent):
            raise OSError(f"less than {SPACE >> 20} MiB are free")
        lock = _locked(target.parent / f".{topic}.lock")
        for left in target.parent.glob(f".{topic}-build-*"):
            shutil.rmtree(left, ignore_errors=True)
        folder = tempfile.mkdtemp(prefix=f".{topic}-build-", dir=target.parent)
    except (OSError, NotImplementedError) as error:
        if lock is not None:
            lock.release()
        raise CacheError(f"{target.parent} cannot be used: {_reason(error)}") from error
    try:
        yield Path(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()


def put(built: Path, target: Path) -> None:
    """Move a file and its hash into the cache, after both are on disk.

    Raises:
        CacheError: The cache cannot be written.
    """
    try:
        _hash_file(built).write_text(_hash(built), encoding="ascii")
        for file in (built, _hash_file(built)):
            _flush_file(file)
        # Between the two the file does not match its hash, and other processes wait for the lock.
        os.replace(built, target)
        os.replace(_hash_file(built), _hash_file(target))
        flush(target.parent)
    except OSError as error:
        raise CacheError(f"{target.parent} cannot be written: {_reason(error)}") from error


def note_unkept(error: Exception) -> None:
    """Note once that kernels are compiled for this process only, and why."""
    note_once(
        "kernels are not kept",
        "note: compiled kernels are not kept, so that every process compiles them anew: "
        f"{' '.join(str(error).split())[:300]}; FLOWPP_CACHE chooses another folder",
    )


def _locked(path: Path) -> FileLock:
    lock = FileLock(path)
    try:
        lock.acquire(timeout=UNNOTED)
    except Timeout:
        note_once("waiting", f"waiting for another process that compiles kernels in {path.parent}")
        try:
            lock.acquire(timeout=PATIENCE)
        except Timeout:
            raise CacheError(
                f"another process has held {path} for {PATIENCE:.0f} seconds"
            ) from None
    return lock


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _flush_file(path: Path) -> None:
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def _hash_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _hash(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
