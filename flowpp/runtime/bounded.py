"""Reading of files from elsewhere: regular files only, and no more than a limit of bytes.

A run directory that was copied from somewhere may hold a link to a device without an end, a FIFO,
on which a read would wait for ever, or a file of many gigabytes without contents.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

DIGITS = 100
"""Largest number of digits of an integer in JSON: larger ones may not become a float."""
LONGEST_REASON = 300
"""Characters of an error's message that are quoted."""
_KINDS = {
    stat.S_IFDIR: "a folder", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device", stat.S_IFBLK: "a device",
}  # fmt: skip


def brief(error: BaseException | str) -> str:
    """Return the beginning of the first line of an error's message, or its kind without one.

    Messages of libraries may quote a whole file.
    """
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return line if len(line) <= LONGEST_REASON else f"{line[:LONGEST_REASON]} ..."


class FileError(ValueError):
    """Raised for a path that is not a regular file, or a file that is too large."""


def open_regular(path: Path, limit: int) -> BinaryIO:
    """Open a regular file of at most `limit` bytes for reading; links are followed.

    Raises:
        FileNotFoundError: A missing file.
        OSError: The file cannot be opened.
        FileError: It is no regular file, or too large.
    """
    _check(path, os.stat(path), limit)  # opening a device may already have an effect
    flags = os.O_RDONLY
    for name in ("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY"):
        flags |= getattr(os, name, 0)
    file = os.fdopen(os.open(path, flags), "rb")
    try:
        _check(path, os.fstat(file.fileno()), limit)
    except FileError:
        file.close()
        raise
    return file


def check_regular(path: Path, limit: int) -> None:
    """Require what `open_regular` does, of a file that a library will open by its name."""
    open_regular(path, limit).close()


def read_bounded(path: Path, limit: int) -> bytes:
    """Return the content of a regular file of at most `limit` bytes; raises as `open_regular`."""
    with open_regular(path, limit) as file:
        content = file.read(limit + 1)  # files of /proc have more than their size
    if len(content) > limit:
        raise _too_large(path, limit, "more")
    return content


def read_json(path: Path, limit: int) -> Any:
    """Return the value in a JSON file.

    Raises:
        OSError, FileError: As `open_regular`.
        ValueError: The content is not JSON, nested too deeply, or has integers of too many digits.
    """
    return parse_json(read_bounded(path, limit))


def parse_json(text: str | bytes) -> Any:
    """Return the value of a text in JSON; raises ValueError as `read_json`."""
    try:
        return json.loads(text, parse_int=_integer)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _integer(text: str) -> int:
    if len(text) > DIGITS:
        raise ValueError(f"an integer must have at most {DIGITS} digits, got {len(text):,}")
    return int(text)


def _check(path: Path, status: os.stat_result, limit: int) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        raise FileError(f"{path} must be a regular file, got {kind}")
    if status.st_size > limit:
        raise _too_large(path, limit, f"{status.st_size:,}")


def _too_large(path: Path, limit: int, got: str) -> FileError:
    return FileError(f"{path} must have at most {limit:,} bytes, got {got}")
