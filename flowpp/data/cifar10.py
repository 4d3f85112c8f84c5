"""CIFAR-10 from the published Python archive, or any 32x32 colour images from an `.npz`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from flowpp.config import DataConfig
from flowpp.data import archive, array_pickle, npz_images
from flowpp.data.archive import ArchiveError
from flowpp.data.image_set import ImageSet, Part
from flowpp.data.label_arrays import named
from flowpp.data.own_labels import with_labels
from flowpp.runtime.bounded import FileError, read_bounded

FOLDER = "cifar-10-batches-py"
CONTENTS = f"the folder {FOLDER}, its .tar.gz, or an .npz"
TRAIN_FILES = tuple(f"data_batch_{i}" for i in range(1, 6))
TEST_FILES = ("test_batch",)
CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
"""Names of labels 0 ... 9, as in the published file batches.meta."""
IMAGES_PER_FILE = 10_000
MAX_FILE_BYTES = 64 << 20
"""Limit on one batch file; the published ones have 31 MB."""
MAX_ARCHIVE_BYTES = 512 << 20
"""Limit on the unpacked archive; the published one has 186 MB."""


def load(config: DataConfig) -> ImageSet:
    """Load CIFAR-10 from `cifar-10-batches-py`, `cifar-10-python.tar.gz`, or an `.npz`.

    An `.npz` is read by `npz_images.load`.

    Raises:
        FileNotFoundError: A missing path or batch file.
        TypeError: An array that is not uint8.
        ValueError: No path, or a file that is truncated, unsafe, or of another shape or count.
    """
    path = config.required_path(CONTENTS)
    if not path.exists():
        raise FileNotFoundError(f"cifar10: {path} does not exist")
    if path.is_dir():
        return _from_batches(path, _folder_files(path), config)
    if not path.is_file():
        raise ValueError(f"cifar10: {path} must be a file or a folder")
    if path.suffix == ".npz":
        return npz_images.load(config, CLASSES)
    try:
        return _from_batches(path, _archived_files(path), config)
    except ArchiveError as error:
        raise ValueError(f"cifar10: {error}; needed {CONTENTS}") from error


def _folder_files(folder: Path) -> Iterator[tuple[str, bytes]]:
    inner = folder / FOLDER if (folder / FOLDER).is_dir() else folder
    for name in (*TRAIN_FILES, *TEST_FILES):
        file = inner / name
        if not file.is_file():
            raise FileNotFoundError(f"cifar10: {inner} has no file {name}")
        try:
            yield name, read_bounded(file, MAX_FILE_BYTES)
        except FileError as error:
            raise ValueError(f"cifar10: {error}") from error


def _archived_files(path: Path) -> Iterator[tuple[str, bytes]]:
    missing = {*TRAIN_FILES, *TEST_FILES}
    for member, raw in archive.files(
        path,
        lambda member: PurePosixPath(member).name in missing,
        max_file_bytes=MAX_FILE_BYTES,
        max_total_bytes=MAX_ARCHIVE_BYTES,
    ):
        name = PurePosixPath(member).name
        missing.remove(name)
        yield name, raw
    if missing:
        raise FileNotFoundError(f"cifar10: {path} has no member {FOLDER}/{min(missing)}")


def _from_batches(path: Path, files: Iterator[tuple[str, bytes]], config: DataConfig) -> ImageSet:
    batches = {name: _read_batch(path, name, raw) for name, raw in files}

    def images(names: tuple[str, ...]) -> np.ndarray:
        # A row holds all red, then all green, then all blue values.
        rows = np.concatenate([_rows(path, name, batches[name]) for name in names])
        return rows.reshape(-1, 3, 32, 32)

    origins = {
        "train": f"{TRAIN_FILES[0]} to {TRAIN_FILES[-1]} of {path}",
        "test": f"{TEST_FILES[0]} of {path}",
    }
    found = ImageSet("cifar10", images(TRAIN_FILES), images(TEST_FILES), 256, origins=origins)
    if config.labels is None:
        return found
    parts: dict[Part, tuple[str, ...]] = {"train": TRAIN_FILES, "test": TEST_FILES}
    names = {
        part: [label for name in part_names for label in _labels(path, name, batches[name])]
        for part, part_names in parts.items()
    }
    return with_labels(found, config, names)


def _read_batch(path: Path, name: str, raw: bytes) -> dict[Any, Any]:
    """Return the content of one batch file."""
    try:
        content = array_pickle.loads(raw)
    except ValueError as error:
        raise type(error)(f"cifar10: {name} in {path}: {error}") from error
    return content if isinstance(content, dict) else {}


def _rows(path: Path, name: str, content: dict[Any, Any]) -> np.ndarray:
    """Return the images of one batch file, shape (10000, 3072)."""
    who = f"cifar10: {name} in {path}"
    data = content.get(b"data", content.get("data"))
    if not isinstance(data, np.ndarray):
        raise ValueError(f"{who} must be a dictionary with an array 'data', got none")
    if data.shape != (IMAGES_PER_FILE, 3072):
        raise ValueError(f"{who} must have shape {(IMAGES_PER_FILE, 3072)}, got {data.shape}")
    return data


def _labels(path: Path, name: str, content: dict[Any, Any]) -> list[str]:
    """Return the names of the classes of one batch file's images."""
    who = f"cifar10: labels of {name} in {path}"
    numbers = content.get(b"labels", content.get("labels"))
    if not isinstance(numbers, list) or len(numbers) != IMAGES_PER_FILE:
        got = f"{len(numbers)} of them" if isinstance(numbers, list) else "none"
        raise ValueError(f"{who} must be a list of {IMAGES_PER_FILE:,}, got {got}")
    return named([str(number) for number in numbers], CLASSES, who)
