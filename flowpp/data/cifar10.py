"""CIFAR-10 from the published python archive, or any 32x32 colour images from an `.npz`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np

from flowpp.data import archive, array_pickle, npz
from flowpp.data.archive import ArchiveError
from flowpp.data.image_set import ImageSet

FOLDER = "cifar-10-batches-py"
TRAIN_FILES = tuple(f"data_batch_{i}" for i in range(1, 6))
TEST_FILES = ("test_batch",)
IMAGES_PER_FILE = 10_000
LARGEST_FILE = 64 << 20
"""Bytes; a batch holds 31 MB. A larger one is no batch, and is not read into memory."""
LARGEST_ARCHIVE = 512 << 20
"""Bytes, unpacked; the published one has 186 MB."""
SHAPE = (32, 32, 3)


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
        return _from_batches(place, _in_folder(place))
    if not place.is_file():
        raise ValueError(f"cifar10: {place} is neither a file nor a folder")
    if place.suffix == ".npz":
        return _from_npz(place, held_out)
    try:
        return _from_batches(place, _archived(place))
    except ArchiveError as error:
        raise ValueError(
            f"cifar10: {error}; needed the folder {FOLDER}, its .tar.gz, or an .npz"
        ) from error


def _in_folder(folder: Path) -> Iterator[tuple[str, bytes]]:
    inner = folder / FOLDER if (folder / FOLDER).is_dir() else folder
    for name in (*TRAIN_FILES, *TEST_FILES):
        file = inner / name
        if not file.is_file():
            raise FileNotFoundError(f"cifar10: {inner} has no file {name}")
        _check_size(file, file.stat().st_size)
        yield name, file.read_bytes()


def _archived(place: Path) -> Iterator[tuple[str, bytes]]:
    missing = {*TRAIN_FILES, *TEST_FILES}
    for path, raw in archive.files(
        place,
        lambda member: PurePosixPath(member).name in missing,
        largest=LARGEST_FILE,
        most=LARGEST_ARCHIVE,
    ):
        name = PurePosixPath(path).name
        missing.remove(name)
        yield name, raw
    if missing:
        raise FileNotFoundError(f"cifar10: {place} has no member {FOLDER}/{min(missing)}")


def _check_size(file: Path, size: int) -> None:
    if size > LARGEST_FILE:
        raise ValueError(f"cifar10: {file} has {size} bytes, at most {LARGEST_FILE} expected")


def _from_batches(place: Path, files: Iterator[tuple[str, bytes]]) -> ImageSet:
    rows = {name: _batch(place, name, raw) for name, raw in files}

    def images(names: tuple[str, ...]) -> np.ndarray:
        # A row is all red, all green, all blue.
        return np.concatenate([rows[name] for name in names]).reshape(-1, 3, 32, 32)

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
    def images(split: str) -> np.ndarray:
        array = arrays[split]
        if array.dtype != np.uint8:
            raise TypeError(f"cifar10: {split} in {place} must be uint8, got {array.dtype}")
        if array.ndim != 4 or array.shape[1:] != SHAPE or len(array) == 0:
            raise ValueError(
                f"cifar10: {split} in {place} needs shape (N, 32, 32, 3), got {array.shape}"
            )
        return np.ascontiguousarray(array.transpose(0, 3, 1, 2))

    try:
        there = npz.names(place)
        if not {"train", held_out} <= set(there):
            raise ValueError(f"{place} needs arrays 'train' and {held_out!r}, got {sorted(there)}")
        arrays = npz.read(place, ("train", held_out))
    except ValueError as error:
        raise ValueError(f"cifar10: {error}") from error
    name = "cifar10" if held_out == "test" else f"cifar10, {held_out}"
    return ImageSet(name, images("train"), images(held_out), 256)
