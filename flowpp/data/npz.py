"""Reads `.npz` archives in bounded memory, and nothing in them that could be code.

A few kilobytes can declare an array of terabytes, or unpack to gigabytes. So each array's header
is held against the size that the archive states, and that against the archive's size on disk.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable
from math import prod
from pathlib import Path
from typing import IO, TypeVar

import numpy as np

T = TypeVar("T")
MOST_UNPACKED = 100
"""Times the archive's own size: images and weights shrink far less."""
ALWAYS_UNPACKED = 64 << 20
"""Bytes that are unpacked whatever the archive's size: images all black do shrink."""
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""What NumPy writes; other methods may ask for gigabytes to unpack a byte."""


class NpzError(ValueError):
    """Damaged, hostile, or no `.npz` archive at all."""


def names(path: Path) -> list[str]:
    """The names of the arrays in an archive.

    Raises:
        FileNotFoundError: there is no such file.
        NpzError: not a readable archive.
    """
    return list(_with_archive(path, _members))


def read(path: Path, wanted: Iterable[str]) -> dict[str, np.ndarray]:
    """The arrays of these names.

    Raises:
        FileNotFoundError: there is no such file.
        KeyError: there is no array of such a name.
        NpzError: damaged, of Python objects, or larger unpacked than the file could hold.
    """
    return _with_archive(path, lambda archive: _arrays(path, archive, list(wanted)))


def _with_archive(path: Path, use: Callable[[zipfile.ZipFile], T]) -> T:
    with path.open("rb") as stream:
        try:
            if stream.read(6) == np.lib.format.MAGIC_PREFIX:
                raise NpzError(f"{path} is one array, needed an .npz of several")
            with zipfile.ZipFile(stream) as archive:
                return use(archive)
        except (NpzError, _AbsentError):
            raise
        except Exception as error:  # a damaged archive may raise nearly anything
            what = str(error) or type(error).__name__
            raise NpzError(f"{path} is damaged or no .npz file: {what}") from error


class _AbsentError(KeyError):
    """No array of that name."""


def _members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    return {m.filename.removesuffix(".npy"): m for m in archive.infolist()}


def _arrays(path: Path, archive: zipfile.ZipFile, wanted: list[str]) -> dict[str, np.ndarray]:
    members = _members(archive)
    for name in wanted:
        if name not in members:
            raise _AbsentError(name)
    total = sum(members[name].file_size for name in wanted)
    most = max(ALWAYS_UNPACKED, MOST_UNPACKED * path.stat().st_size)
    if total > most:
        raise NpzError(f"{path} would unpack to {total:,} bytes, at most {most:,} are read")
    return {name: _array(path, archive, members[name]) for name in wanted}


def _array(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    if member.compress_type not in METHODS:
        raise NpzError(f"{path}: {member.filename} is packed by another method than NumPy's")
    with archive.open(member) as stream:
        shape, dtype = _header(stream)
        needed = stream.tell() + prod(shape) * dtype.itemsize
    if not dtype.hasobject and (needed != member.file_size or not dtype.itemsize):
        raise NpzError(
            f"{path}: {member.filename} declares shape {shape} of {dtype}, {needed:,} bytes, "
            f"but has {member.file_size:,}"
        )
    with archive.open(member) as stream:
        array = np.lib.format.read_array(stream, allow_pickle=False)
        stream.read()  # to the end, where the checksum is looked at
    return array


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    elif version == (2, 0):
        shape, _, dtype = np.lib.format.read_array_header_2_0(stream)
    else:
        raise ValueError(f"arrays of version 1.0 or 2.0 are needed, got {version}")
    return shape, dtype
