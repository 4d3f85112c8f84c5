"""Image files in a zip or tar archive, read in memory and within limits."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from flowpp.data import archive
from flowpp.data.archive import member_limit
from flowpp.data.decode import MAX_FILE_BYTES, ImageError, Source
from flowpp.data.listing import Listing
from flowpp.data.npz import MAX_RATIO, METHODS
from flowpp.data.zip_archive import open_zip
from flowpp.runtime.bounded import brief

SMALL_BYTES = 1 << 30
"""Unpacked size that is always accepted."""


class PackedError(ValueError):
    """The archive is damaged, hostile or encrypted."""


@dataclass(frozen=True)
class _Packed:
    """Image files in one file on disk."""

    path: Path
    listing: Listing

    @property
    def name(self) -> str:
        return self.path.name.split(".")[0] or self.path.name

    @property
    def where(self) -> str:
        return str(self.path)

    def who(self, image: PurePosixPath) -> str:
        return f"{self.path}/{image}"

    def paths(self, images: Sequence[PurePosixPath]) -> list[Path]:
        return [self.path]

    def labels(self, images: Sequence[PurePosixPath]) -> None:
        return None


class ZipFiles(_Packed):
    """Image files in a zip archive."""

    @classmethod
    def open(cls, path: Path) -> ZipFiles:
        """List an archive.

        Raises:
            PackedError: A damaged archive, or one that unpacks to a hundred times its size.
        """
        with _opened(path) as packed:
            members = _members(packed)
        total, limit = sum(m.file_size for m in members.values()), unpacked_limit(path)
        if total > limit:
            raise PackedError(
                f"folder: {path} must unpack to at most {limit:,} bytes, got {total:,}"
            )
        return cls(path, Listing.of(members))

    def read(self, images: Sequence[PurePosixPath]) -> Iterator[tuple[PurePosixPath, Source]]:
        with _opened(self.path) as packed:
            members = _members(packed)
            for image in images:
                try:
                    content: Source = _content(packed, members[image], self.who(image))
                except ImageError as error:  # the others can be read all the same
                    content = error
                yield image, content


class TarFiles(_Packed):
    """Image files in a tar archive, plain or compressed; each use reads it from its beginning."""

    @classmethod
    def open(cls, path: Path) -> TarFiles:
        """List an archive.

        Raises:
            PackedError: A damaged archive, or one that unpacks to a hundred times its size.
        """
        names: list[PurePosixPath] = []

        def note(name: str) -> bool:
            names.append(PurePosixPath(name))
            return False

        for _ in _tar_members(path, note):
            pass
        return cls(path, Listing.of(dict.fromkeys(names)))

    def read(self, images: Sequence[PurePosixPath]) -> Iterator[tuple[PurePosixPath, Source]]:
        wanted = set(images)
        for name, content in _tar_members(self.path, lambda name: PurePosixPath(name) in wanted):
            yield PurePosixPath(name), content


def unpacked_limit(path: Path) -> int:
    """Return the largest accepted size of an archive's contents, in bytes."""
    return max(SMALL_BYTES, MAX_RATIO * path.stat().st_size)


def _tar_members(path: Path, select: archive.Select) -> Iterator[tuple[str, bytes]]:
    try:
        yield from archive.files(
            path,
            select,
            max_file_bytes=MAX_FILE_BYTES,
            max_total_bytes=unpacked_limit(path),
        )
    except archive.ArchiveError as error:
        raise PackedError(f"folder: {error}") from error


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    with ExitStack() as stack:
        try:
            packed = stack.enter_context(open_zip(path, member_limit(path)))
        except OSError:
            raise
        except Exception as error:  # a damaged archive may raise nearly anything
            raise PackedError(
                f"folder: {path} is a damaged zip archive: {brief(error)}"
            ) from error
        yield packed


def _members(packed: zipfile.ZipFile) -> dict[PurePosixPath, zipfile.ZipInfo]:
    return {
        PurePosixPath(member.filename.replace("\\", "/")): member
        for member in packed.infolist()
        if not member.is_dir()
    }


def _content(packed: zipfile.ZipFile, member: zipfile.ZipInfo, who: str) -> bytes:
    """Read a member.

    Raises:
        ImageError: It is damaged, encrypted, too large, or compressed in another way.
    """
    if member.flag_bits & 1:
        raise ImageError(f"{who} must not be encrypted")
    if member.compress_type not in METHODS:
        raise ImageError(
            f"{who} must be stored or deflated, got compression method {member.compress_type}"
        )
    if member.file_size > MAX_FILE_BYTES:
        raise ImageError(f"{who} must have at most {MAX_FILE_BYTES:,} bytes, got more")
    try:
        return packed.read(member)
    except Exception as error:  # as in `_opened`
        raise ImageError(f"{who} is damaged: {brief(error)}") from error
