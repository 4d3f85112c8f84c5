"""Files of a tar archive, read in memory: no name in it can touch the disk.

A small compressed archive may unpack without end, or hold a header of gigabytes, or one that leads
back to its own beginning. So the archive is read forwards only, and so much of it and no more.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

OPENERS: dict[bytes, Callable[[Any], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\x00": lzma.open,
}
DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    ArithmeticError,
    tarfile.TarError,
    lzma.LZMAError,
    zlib.error,
)
STEP = 1 << 20


class ArchiveError(ValueError):
    """Truncated, hostile, or no tar archive."""


def files(
    path: Path, wanted: Callable[[str], bool], *, largest: int, most: int | None = None
) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the regular files that are wanted, as they lie in the archive.

    Args:
        path: a tar archive, plain or compressed by gzip, bzip2 or xz.
        wanted: asked about each member's name.
        largest: bytes of one file.
        most: bytes of the whole archive, unpacked; only its size on disk is the limit if None.

    Raises:
        ArchiveError: truncated, no archive, or larger than that.
        OSError: it cannot be opened.
    """
    with path.open("rb") as packed:
        try:
            start = packed.read(6)
            packed.seek(0)
            opener = next((o for magic, o in OPENERS.items() if start.startswith(magic)), None)
            stream = _Forward(opener(packed) if opener else packed, largest, most)
            with closing(tarfile.open(fileobj=stream, mode="r:")) as tar:
                while (member := tar.next()) is not None:
                    tar.members = []  # type: ignore[attr-defined]  # not a million of them
                    if member.isfile() and wanted(member.name):
                        if member.size > largest:
                            raise ArchiveError(
                                f"{member.name} in {path} has {member.size:,} bytes, "
                                f"at most {largest:,} expected"
                            )
                        content = tar.extractfile(member)
                        assert content is not None  # isfile() was asked above
                        yield member.name, content.read()
        except (ArchiveError, GeneratorExit):
            raise
        except _TooMuchError as error:
            raise ArchiveError(f"{path} {error}") from error
        except DAMAGE as error:
            raise ArchiveError(f"{path} is truncated or no tar archive: {error}") from error


class _TooMuchError(Exception):
    """A limit is passed."""


class _Forward(io.RawIOBase):
    """A stream that is read from its beginning to its end, within limits."""

    def __init__(self, stream: Any, largest: int, most: int | None) -> None:
        self.stream, self.largest, self.most = stream, largest, most
        self.place = 0

    def tell(self) -> int:
        return self.place

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= self.largest + tarfile.BLOCKSIZE:
            raise _TooMuchError(f"has a part of {size:,} bytes, at most {self.largest:,} expected")
        data = self.stream.read(size)
        self.place += len(data)
        if self.most is not None and self.place > self.most:
            raise _TooMuchError(f"unpacks to more than {self.most:,} bytes")
        return data

    def seek(self, place: int, whence: int = 0) -> int:
        if whence or place < self.place:
            raise ValueError("a header leads backwards")
        while self.place < place and self.read(min(STEP, self.largest, place - self.place)):
            pass
        return self.place
