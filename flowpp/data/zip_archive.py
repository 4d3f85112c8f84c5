"""Opening of zip archives, with a limit on the number of their members.

The standard library reads the whole list of members at once: a list of a gigabyte would take
minutes and many times its size in memory.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from flowpp.data.archive import LARGEST
from flowpp.runtime.bounded import open_regular

ENTRY_BYTES = 256
"""Bytes of the list for each member that is allowed: a name, and about 80 bytes."""


@contextmanager
def open_zip(path: Path, most_members: int) -> Iterator[zipfile.ZipFile]:
    """Open a zip archive of at most `most_members` files and folders.

    Raises:
        FileNotFoundError: A missing file.
        OSError: The file cannot be read.
        ValueError, zipfile.BadZipFile: It is not a regular file, or has too many members, or is
            damaged; damaged archives may raise other errors as well.
    """
    with open_regular(path, LARGEST) as file:
        stream = _LimitedReads(file, most_members * ENTRY_BYTES)
        with zipfile.ZipFile(stream) as archive:
            stream.limit = None
            count = len(archive.infolist())
            if count > most_members:
                raise ValueError(f"it must have at most {most_members:,} members, got {count:,}")
            yield archive


class _LimitedReads(io.BufferedIOBase):
    """A file of which no more than `limit` bytes are read at once, if there is a limit."""

    def __init__(self, file: BinaryIO, limit: int) -> None:
        self.file = file
        self.limit: int | None = limit

    def read(self, size: int | None = -1, /) -> bytes:
        """Read bytes.

        Raises:
            ValueError: More are asked for than the limit.
        """
        if self.limit is not None and size is not None and size > self.limit:
            raise ValueError(
                f"its list of members must have at most {self.limit:,} bytes, got {size:,}"
            )
        return self.file.read(-1 if size is None else size)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        return self.file.tell()

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True
