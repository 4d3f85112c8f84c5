"""CIFAR-10 from the published python archive, or any 32x32 colour images from an `.npz`."""

from __future__ import annotations

import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from flowpp.data import array_pickle
from flowpp.data.image_set import ImageSet

FOLDER = "cifar-10-batches-py"
TRAIN_FILES = tuple(f"data_batch_{i}" for i in range(1, 6))
TEST_FILES = ("test_batch",)
IMAGES_PER_FILE = 10_000
LARGEST_FILE = 64 << 20
"""Bytes; a batch holds 31 MB. A larger one is no batch, and is not read into memory."""
SHAPE = (32, 32, 3)

Reader = Callable[[str], bytes]


def load(path: str | None, held_out: str = "test") -> ImageSet:
    """CIFAR-10 from `cifar-10-batches-py`, `cifar-10-python.tar.gz`, or an `.npz`.

    An `.npz` holds the arrays `train` and `test`, uint8 of shape (N, 32, 32, 3); it may hold more,
    and `held_out` names the one to hold out.

    Raises:
        FileNotFoundError: nothing lies at `path`, or a batch is missing there.
        TypeError: an array is not uint8.
        ValueError: no path given, or the file is truncated, unsafe, or of another shape or count.
    """
    if path is None:
        raise ValueError(
            f"cifar10 needs --data.path: the folder {FOLDER}, its .tar.gz, or an .npz; got none"
        )
    place = Path(path).expanduser()
    if not place.exists():
        raise FileNotFoundError(f"cifar10: nothing lies at {place}")
    if place.is_dir():
        return _from_batches(place, _folder_reader(place))
    if place.suffix == ".npz":
        return _from_npz(place, held_out)
    try:
        with tarfile.open(place, "r:*") as archive:
            return _from_batches(place, _archive_reader(place, archive))
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(
            f"cifar10: {place} is truncated or no tar archive; needed the folder {FOLDER}, "
            "its .tar.gz, or an .npz"
        ) from error


def _folder_reader(folder: Path) -> Reader:
    inner = folder / FOLDER if (folder / FOLDER).is_dir() else folder

    def read(name: str) -> bytes:
        file = inner / name
        if not file.is_file():
            raise FileNotFoundError(f"cifar10: {inner} has no file {name}")
        _check_size(file, file.stat().st_size)
        return file.read_bytes()

    return read


def _archive_reader(place: Path, archive: tarfile.TarFile) -> Reader:
    # Members are read in memory and never extracted: no name in the archive can touch the disk.
    members = {Path(m.name).name: m for m in archive.getmembers() if m.isfile()}

    def read(name: str) -> bytes:
        if name not in members:
            raise FileNotFoundError(f"cifar10: {place} has no member {FOLDER}/{name}")
        _check_size(place / name, members[name].size)
        stream = archive.extractfile(members[name])
        assert stream is not None  # isfile() was asked above
        return stream.read()

    return read


def _check_size(file: Path, size: int) -> None:
    if size > LARGEST_FILE:
        raise ValueError(f"cifar10: {file} has {size} bytes, at most {LARGEST_FILE} expected")


def _from_batches(place: Path, read: Reader) -> ImageSet:
    def images(names: tuple[str, ...]) -> np.ndarray:
        rows = np.concatenate([_batch(place, name, read(name)) for name in names])
        return rows.reshape(-1, 3, 32, 32)  # a row is all red, all green, all blue

    return ImageSet("cifar10", images(TRAIN_FILES), images(TEST_FILES), 256)


def _batch(place: Path, name: str, raw: bytes) -> np.ndarray:
    """The (10000, 3072) images of one batch file."""
    who = f"cifar10: {name} in {place}"
    try:
        content = array_pickle.loads(raw)
    except ValueError as error:
        raise type(error)(f"{who}: {error}") from error
    data = content.get(b"data", content.get("data")) if isinstance(content, dict) else None
    if not isinstance(data, np.ndarray):
        raise ValueError(f"{who} needs a dictionary with an array 'data', got none")
    if data.shape != (IMAGES_PER_FILE, 3072):
        raise ValueError(f"{who} needs shape {(IMAGES_PER_FILE, 3072)}, got {data.shape}")
    return data


def _from_npz(place: Path, held_out: str) -> ImageSet:
    def images(archive: np.lib.npyio.NpzFile, split: str) -> np.ndarray:
        if split not in archive.files:
            raise ValueError(
                f"cifar10: {place} needs arrays 'train' and {held_out!r}, got {archive.files}"
            )
        array = archive[split]
        if array.dtype != np.uint8:
            raise TypeError(f"cifar10: {split} in {place} must be uint8, got {array.dtype}")
        if array.ndim != 4 or array.shape[1:] != SHAPE or len(array) == 0:
            raise ValueError(
                f"cifar10: {split} in {place} needs shape (N, 32, 32, 3), got {array.shape}"
            )
        return np.ascontiguousarray(array.transpose(0, 3, 1, 2))

    try:
        # Read whole, so that a file cut short shows here; arrays of objects (pickles) are refused.
        archive = np.load(io.BytesIO(place.read_bytes()), allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError(f"cifar10: {place} is one array, needed an .npz of two")
        with archive:
            name = "cifar10" if held_out == "test" else f"cifar10, {held_out}"
            return ImageSet(name, images(archive, "train"), images(archive, held_out), 256)
    except (zipfile.BadZipFile, EOFError, zlib.error, OSError) as error:
        raise ValueError(f"cifar10: {place} is truncated or no .npz file ({error})") from error
    except ValueError as error:
        if str(error).startswith("cifar10:"):
            raise
        raise ValueError(f"cifar10: {place} is damaged or no .npz file ({error})") from error
