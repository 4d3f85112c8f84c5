"""Atomic writes, where a reader finds the old file or the new one; and the cache folder."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def cache_folder() -> Path:
    """Return `$FLOWPP_CACHE`, or `flowpp` below `$XDG_CACHE_HOME` or `~/.cache`."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("FLOWPP_CACHE") or Path(base) / "flowpp")


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path; after the block, flush it to disk and rename it to `path`.

    If the block raises, the temporary file is removed and `path` is unchanged.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    temporary.unlink(missing_ok=True)  # it may be a link to another file
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        flush(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def make_writable_folder(path: Path) -> Path:
    """Create a folder and its parents, and check that it is writable, before a long computation.

    Returns:
        The path itself.

    Raises:
        OSError: The folder cannot be created or written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"folder {path} cannot be created: {error}") from error
    if not os.access(path, os.W_OK):
        raise PermissionError(f"folder {path} is not writable")
    return path


def flush(path: Path) -> None:
    """Write a file to disk, or make the renames in a folder durable, which POSIX systems need."""
    if os.name == "posix":
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_json(path: Path, value: Any) -> None:
    """Write `value` atomically as indented JSON; NaN and infinity become null."""
    text = json.dumps(finite_or_null(value), indent=2, allow_nan=False)
    with atomic_write(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def finite_or_null(value: Any) -> Any:
    """Replace NaN and infinities by None in plain values: JSON has neither."""
    if isinstance(value, dict):
        return {name: finite_or_null(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite_or_null(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
