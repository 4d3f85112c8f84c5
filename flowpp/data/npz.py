"""Reader of `.npz` archives that bounds memory and refuses pickled objects.

A few kilobytes can declare an array of terabytes, or unpack to gigabytes. So the size that each
array's header implies is compared with the size stated by the archive, and the sum of those with
the archive's size on disk.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable
from math import prod
from pathlib import Path
from typing import IO, TypeVar

import numpy as np

from flowpp.data.archive import LARGEST
from flowpp.data.zip_archive import open_zip
from flowpp.runtime.bounded import brief, open_regular

T = TypeVar("T")
MAX_RATIO = 100
"""Limit on unpacked over packed size; images and weights compress far less."""
SMALL_BYTES = 64 << 20
"""Unpacked size that is always accepted: all-black images do compress more."""
MOST_ARRAYS = 5_000
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Methods that NumPy writes; others may allocate gigabytes to unpack a byte."""


class NpzError(ValueError):
    """The file is damaged, hostile, or not an `.npz` archive."""


def names(path: Path) -> list[str]:
    """Return the names of the arrays in an archive.

    Raises:
        FileNotFoundError: A missing file.
        NpzError: A file that is not a readable archive.
    """
    return list(_with_archive(path, _members))


def read(path: Path, selected: Iterable[str]) -> dict[str, np.ndarray]:
    """Read the selected arrays of an archive.

    Raises:
        FileNotFoundError: A missing file.
        KeyError: A missing array.
        NpzError: A damaged archive, an array of Python objects, or one above the size limits.
    """
    return _with_archive(path, lambda archive: _read_arrays(path, archive, list(selected)))


def _with_archive(path: Path, use: Callable[[zipfile.ZipFile], T]) -> T:
    try:
        with open_regular(path, LARGEST) as stream:
            if stream.read(6) == np.lib.format.MAGIC_PREFIX:
                raise NpzError(f"{path} must be an .npz archive, got a single array (.npy)")
        with open_zip(path, MOST_ARRAYS) as archive:
            return use(archive)
    except (NpzError, _MissingArrayError, FileNotFoundError, PermissionError):
        raise
    except Exception as error:  # a damaged archive may raise nearly anything
        raise NpzError(f"{path} is damaged or not an .npz archive: {brief(error)}") from error


class _MissingArrayError(KeyError):
    """The archive has no array of that name."""


def _members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    return {m.filename.removesuffix(".npy"): m for m in archive.infolist()}


def _read_arrays(
    path: Path, archive: zipfile.ZipFile, selected: list[str]
) -> dict[str, np.ndarray]:
    members = _members(archive)
    for name in selected:
        if name not in members:
            raise _MissingArrayError(name)
    total = sum(members[name].file_size for name in selected)
    limit = max(SMALL_BYTES, MAX_RATIO * path.stat().st_size)
    if total > limit:
        raise NpzError(f"{path} must unpack to at most {limit:,} bytes, got {total:,}")
    return {name: _read_array(path, archive, members[name]) for name in selected}


def _read_array(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    if member.compress_type not in METHODS:
        raise NpzError(
            f"{path}: {member.filename} must be stored or deflated, got compression method "
            f"{member.compress_type}"
        )
    with archive.open(member) as stream:
        shape, dtype = _read_header(stream)
        expected = stream.tell() + prod(shape) * dtype.itemsize
    if not dtype.hasobject and (expected != member.file_size or not dtype.itemsize):
        raise NpzError(
            f"{path}: {member.filename} must have {expected:,} bytes for its shape {shape} of "
            f"{dtype}, got {member.file_size:,}"
        )
    with archive.open(member) as stream:
        array = np.lib.format.read_array(stream, allow_pickle=False)
        stream.read()  # zipfile verifies the checksum at the end of the member
    return array


def _read_header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    elif version == (2, 0):
        shape, _, dtype = np.lib.format.read_array_header_2_0(stream)
    else:
        raise ValueError(f".npy version must be 1.0 or 2.0, got {version}")
    return shape, dtype
