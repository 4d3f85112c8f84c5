"""Atomic writes, where a reader finds the old file or the new one; and the cache folder."""

from __future__ import annotations

import itertools
import json
import math
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flowpp.runtime.scratch import scratch_folder


def cache_folder() -> Path:
    """Return `$FLOWPP_CACHE`, or `flowpp` below `$XDG_CACHE_HOME` or `~/.cache`."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("FLOWPP_CACHE") or Path(base) / "flowpp")


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield the path of an empty temporary file; after the block, flush and rename it to `path`.

    If the block raises, or the process is killed, `path` is unchanged; see `scratch` for what
    then becomes of the temporary file. The file has the permissions that the process's umask
    leaves, whichever library writes it.

    Raises:
        OSError: The file cannot be written.
    """
    with scratch_folder(path) as folder, errors_naming(path, folder):
        temporary = folder / f"new{path.suffix}"
        temporary.touch()
        mode = stat.S_IMODE(temporary.stat().st_mode)
        yield temporary
        if stat.S_IMODE(temporary.stat().st_mode) != mode:  # safetensors makes its own, 0600
            temporary.chmod(mode)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        flush(path.parent)


@contextmanager
def errors_naming(path: Path, temporary: Path | None = None) -> Iterator[None]:
    """Name `path` in errors of the block that name no file, or one in the folder `temporary`.

    An error of a write, such as that of a full disk, has no name.
    """
    try:
        yield
    except OSError as error:
        name = str(error.filename or "")
        if error.errno is None or (name and not (temporary and name.startswith(str(temporary)))):
            raise
        raise type(error)(error.errno, error.strerror, str(path)) from error


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


def check_can_be_written(path: Path) -> None:
    """Require that a file or folder could be written, before images are read; creates nothing.

    Raises:
        OSError: Its folder is not writable, or cannot be created.
    """
    parent = path.absolute().parent
    folder = next(p for p in (parent, *parent.parents) if p.exists())
    if not folder.is_dir():
        raise NotADirectoryError(f"folder {path.parent} cannot be created: {folder} is a file")
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"folder {folder} is not writable")


def unused_path(path: Path, *suffixes: str) -> Path:
    """Return the path, with -2, -3 ... added to its stem if there is such a file.

    Args:
        path: Path of a file to write.
        *suffixes: Those of files beside it, which must not exist either.
    """

    def is_unused(name: Path) -> bool:
        return not any(file.exists() for file in (name, *map(name.with_suffix, suffixes)))

    numbered = (path.with_stem(f"{path.stem}-{number}") for number in itertools.count(2))
    return path if is_unused(path) else next(filter(is_unused, numbered))


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
