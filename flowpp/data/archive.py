"""Reading files of a tar archive in memory, within limits and without writing to disk.

A small compressed archive may unpack without end, hold a header of gigabytes, or point back to
its own beginning. The archive is therefore read forwards only, and no further than its limits.
"""

from __future__ import annotations

import bz2
import gzip
import io
import itertools
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from flowpp.runtime.bounded import brief, open_regular

Select = Callable[[str], bool]
"""Predicate on a member's name."""
OPENERS: dict[bytes, Callable[[Any], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\x00": lzma.open,
}
DAMAGE_ERRORS = (
    OSError,
    EOFError,
    ValueError,
    ArithmeticError,
    tarfile.TarError,
    lzma.LZMAError,
    zlib.error,
    RecursionError,  # of chained headers
)
"""Raised by the standard library on damaged archives."""
LARGEST = 1 << 42
"""Upper bound on the size of an archive on disk, in bytes."""
FEW_MEMBERS, SMALLEST_MEMBER = 10_000, 100
"""Number of members that is always accepted, and bytes on disk of each member above it."""
CHUNK = 1 << 20
"""Bytes per read while skipping."""


class ArchiveError(ValueError):
    """The file is truncated, hostile, or not a tar archive."""


def files(
    path: Path,
    select: Select,
    *,
    max_file_bytes: int,
    max_total_bytes: int | None = None,
) -> Iterator[tuple[str, bytes]]:
    """Yield names and contents of selected regular files, in the archive's order.

    Args:
        path: Tar archive, plain or compressed by gzip, bzip2 or xz.
        select: Predicate on a member's name.
        max_file_bytes: Limit on one file.
        max_total_bytes: Limit on the whole archive, unpacked; none if None.

    Raises:
        ArchiveError: A truncated file, one that is not a tar archive, or one above the limits.
        OSError: A file that cannot be opened.
    """
    with open_regular(path, LARGEST) as packed:
        try:
            start = packed.read(6)
            packed.seek(0)
            opener = next((o for magic, o in OPENERS.items() if start.startswith(magic)), None)
            stream = _ForwardStream(
                opener(packed) if opener else packed, max_file_bytes, max_total_bytes
            )
            limit = member_limit(path)
            with closing(tarfile.open(fileobj=stream, mode="r:")) as tar:
                for number in itertools.count():
                    if (member := tar.next()) is None:
                        break
                    if number >= limit:
                        raise ArchiveError(f"{path} must have at most {limit:,} members, got more")
                    tar.members = []  # type: ignore[attr-defined]  # keeps memory bounded
                    if member.isfile() and select(member.name):
                        if member.size > max_file_bytes:
                            raise ArchiveError(
                                f"{member.name} in {path} must have at most "
                                f"{max_file_bytes:,} bytes, got {member.size:,}"
                            )
                        content = tar.extractfile(member)
                        assert content is not None  # None only for members that are not files
                        yield member.name, content.read()
        except (ArchiveError, GeneratorExit):
            raise
        except _LimitError as error:
            raise ArchiveError(f"{path} {error}") from error
        except DAMAGE_ERRORS as error:
            raise ArchiveError(
                f"{path} is truncated or not a tar archive: {brief(error)}"
            ) from error


def member_limit(path: Path) -> int:
    """Return the largest accepted number of files and folders of an archive.

    An image and its headers take more than 100 bytes, even compressed; a bomb packs a thousand
    empty files into as many.
    """
    return FEW_MEMBERS + path.stat().st_size // SMALLEST_MEMBER


class _LimitError(Exception):
    """A limit on the archive was exceeded."""


class _ForwardStream(io.RawIOBase):
    """A stream that can only move forwards, within limits."""

    def __init__(self, stream: Any, max_file_bytes: int, max_total_bytes: int | None) -> None:
        self.stream = stream
        self.max_file_bytes, self.max_total_bytes = max_file_bytes, max_total_bytes
        self.position = 0

    def tell(self) -> int:
        return self.position

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= self.max_file_bytes + tarfile.BLOCKSIZE:
            raise _LimitError(
                f"must have parts of at most {self.max_file_bytes:,} bytes, got {size:,}"
            )
        data = self.stream.read(size)
        self.position += len(data)
        if self.max_total_bytes is not None and self.position > self.max_total_bytes:
            raise _LimitError(f"must unpack to at most {self.max_total_bytes:,} bytes, got more")
        return data

    def seek(self, position: int, whence: int = 0) -> int:
        if whence or position < self.position:
            raise ValueError("a header points backwards")
        while self.position < position:
            if not self.read(min(CHUNK, self.max_file_bytes, position - self.position)):
                break
        return self.position
