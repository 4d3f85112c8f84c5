"""Images decoded once into memory-mapped files, which the processes of a machine share.

The folder of a data set holds `train.npy`, `test.npy`, perhaps `valid.npy`, contexts such as
`train_contexts.npy` if there are any, and `images.json`: what the arrays were decoded from, and
the hash of the values. It is written by one process under a lock and renamed when it is complete.
A changed source, other settings or a damaged file make it be written anew.
"""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import hashlib
import json
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike

from flowpp.config import DataConfig
from flowpp.config.context_spec import ContextSpec
from flowpp.data.image_set import ImageSet
from flowpp.runtime.bounded import check_regular, read_json
from flowpp.runtime.files import cache_folder, flush, write_json
from flowpp.runtime.locks import open_lock, try_lock

FORMAT = "flowpp-images-2"
LARGE = 256 << 20
"""Size of the source files, in bytes, from which on their images are kept decoded."""
NAME = "flowpp-decoded"
"""Folder beside the data."""
PARTS = ("train", "test", "valid")
CONTEXTS = {part: f"{part}_contexts" for part in PARTS}
"""Names of the arrays of contexts, which there are if the settings ask for them."""
LARGEST = 1 << 42
"""Upper bound on the size of an array, in bytes."""
LARGEST_FACTS = 64 << 20
"""Upper bound on the size of images.json, which names skipped images, in bytes."""


class Allocate(Protocol):
    """Function that returns an array of a shape, to be filled."""

    def __call__(self, shape: tuple[int, ...], dtype: DTypeLike = np.uint8) -> np.ndarray:
        """Return the array."""


class UnusableError(ValueError):
    """The folder does not hold these images, or they are damaged."""


def in_memory(shape: tuple[int, ...], dtype: DTypeLike = np.uint8) -> np.ndarray:
    """Return an array in memory."""
    return np.empty(shape, dtype)


def is_large(files: Sequence[Path]) -> bool:
    """Return whether the files together have at least `LARGE` bytes."""
    return sum(file.stat().st_size for file in files) >= LARGE


def load(
    config: DataConfig, files: Sequence[Path], decode: Callable[[Allocate], ImageSet]
) -> ImageSet:
    """Return the decoded images as arrays that are read from disk when they are used.

    The first process decodes; others wait for it. Where nothing can be written, or the disk is
    too small, the images are decoded into memory, and a line says so.

    Args:
        config: Settings of the data set.
        files: Files that the images are decoded from.
        decode: Function that decodes them into the arrays that it is given.

    Raises:
        ValueError, OSError: As `decode` does.
    """
    origin = _origin(config, files)
    folders = [base / _key(config) for base in _bases(config)]
    for folder in folders:
        try:
            return _open(folder, origin)
        except UnusableError:
            continue
    for folder in folders:
        if not _is_writable(folder):
            continue
        with _locked(folder) as locked:
            if locked:  # nobody else is writing
                _remove(folder.parent.glob(f".{folder.name}.*.part"))
                _sweep(folder.parent)
            try:
                return _open(folder, origin)  # another process has decoded meanwhile
            except UnusableError as error:
                if folder.exists():
                    _say(f"{folder} is not used: {error}")
            try:
                _write(folder, origin, decode)
                return _open(folder, origin)
            except _DiskFullError as error:
                _say(f"images are decoded into memory, in every process and run: {error}")
                return decode(in_memory)
    _say(
        "images are decoded into memory, in every process and run: none of "
        f"{', '.join(str(folder.parent) for folder in folders)} is writable"
    )
    return decode(in_memory)


def _bases(config: DataConfig) -> list[Path]:
    """Return the folders that may hold decoded images, the preferred one first."""
    cache = cache_folder() / NAME
    if os.environ.get("FLOWPP_CACHE"):
        return [cache]
    return [config.required_path("images").resolve().parent / NAME, cache]


def _key(config: DataConfig) -> str:
    text = json.dumps(_settings(config), sort_keys=True)
    return f"{config.source}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _settings(config: DataConfig) -> dict[str, Any]:
    path = config.required_path("images").resolve()
    settings = {**dataclasses.asdict(config), "path": str(path)}
    del settings["flip"]  # of batches, not of the decoded images
    for name in ("labels", "context"):  # files of versions without contexts remain in use
        if settings[name] is None:
            del settings[name]
    return settings


def _origin(config: DataConfig, files: Sequence[Path]) -> dict[str, Any]:
    """Return the settings, and the number and a hash of the files' names, sizes and times."""
    digest, folder = hashlib.sha256(), config.required_path("images")
    for file in files:
        status = file.stat()
        inside = file.is_relative_to(folder)
        name = str(file.relative_to(folder) if inside else file.resolve())
        digest.update(repr((name, status.st_size, status.st_mtime_ns)).encode())
    return {**_settings(config), "files": len(files), "files_sha256": digest.hexdigest()}


def _is_writable(folder: Path) -> bool:
    """Return whether this user may write the folder, or replace what another user has left."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    present = (path for path in (folder.parent, folder, _lock_file(folder)) if path.exists())
    return all(os.access(path, os.W_OK) for path in present)


def _sweep(base: Path) -> None:
    """Remove what killed processes have left of other data sets, whose locks are free."""
    for lock in base.glob(".*.lock"):
        name = lock.name.removesuffix(".lock")
        if not any(base.glob(f"{glob.escape(name)}.*.part")):
            continue
        with contextlib.suppress(OSError, ValueError), open_lock(lock) as file:
            if try_lock(file):
                _remove(base.glob(f"{glob.escape(name)}.*.part"))


def _remove(folders: Iterable[Path]) -> None:
    for folder in list(folders):
        shutil.rmtree(folder, ignore_errors=True)


def _lock_file(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.lock")


def _open(folder: Path, origin: dict[str, Any]) -> ImageSet:
    """Map the arrays and verify their hash.

    Raises:
        UnusableError: They are missing, damaged, or of another origin.
    """
    try:
        facts = read_json(folder / "images.json", LARGEST_FACTS)
        if facts["format"] != FORMAT or facts["origin"] != origin:
            raise UnusableError("its source has changed since")
        counts = {part: facts[part] for part in PARTS if facts[part] is not None}
        arrays = {part: _mapped(folder / f"{part}.npy")[:count] for part, count in counts.items()}
        spec = facts.get("context")
        contexts = {
            part: _mapped(folder / f"{CONTEXTS[part]}.npy")[:count]
            for part, count in counts.items()
            if spec is not None
        }
        images = ImageSet(
            name=str(facts["name"]),
            levels=facts["levels"],
            skipped=tuple(facts["skipped"]),
            origins=dict(facts["origins"]),
            notes=tuple(map(str, facts["notes"])),
            context=None if spec is None else ContextSpec.from_dict(spec),
            contexts=contexts,
            train=arrays["train"],
            test=arrays["test"],
            valid=arrays.get("valid"),
        )
    except UnusableError:
        raise
    except FileNotFoundError as error:
        raise UnusableError(f"it has no {Path(error.filename).name}") from error
    except (OSError, ValueError, KeyError, TypeError, EOFError, RecursionError) as error:
        raise UnusableError(f"it is damaged ({error})") from error
    if images.sha256 != facts.get("sha256"):
        raise UnusableError("it is damaged (its hash does not match)")
    return images


def _mapped(path: Path) -> np.ndarray:
    """Return the array of a file, read when it is used."""
    check_regular(path, LARGEST)
    # Copy-on-write: torch warns about read-only arrays, and the file remains unchanged.
    return np.asarray(np.load(path, mmap_mode="c", allow_pickle=False))


def _write(folder: Path, origin: dict[str, Any], decode: Callable[[Allocate], ImageSet]) -> None:
    """Decode into a temporary folder, flush it to disk and rename it to `folder`."""
    temporary = folder.with_name(f".{folder.name}.{platform.node()}.{os.getpid()}.part")
    shutil.rmtree(temporary, ignore_errors=True)  # of a killed process with the same number
    temporary.mkdir()
    _say(f"decoding {origin['files']} files of {origin['source']} once, into {folder}")
    try:
        allocate = _MappedArrays(temporary)
        images = decode(allocate)
        parts = {part: getattr(images, part) for part in PARTS}
        arrays = {part: array for part, array in parts.items() if array is not None}
        contexts = {CONTEXTS[part]: array for part, array in images.contexts.items()}
        for name, array in {**arrays, **contexts}.items():
            allocate.keep(array, temporary / f"{name}.npy")
        allocate.remove_others()
        for name in (*arrays, *contexts):
            flush(temporary / f"{name}.npy")
        spec = {} if images.context is None else {"context": images.context.to_dict()}
        write_json(
            temporary / "images.json",
            {
                "format": FORMAT,
                "origin": origin,
                "name": images.name,
                "levels": images.levels,
                "skipped": list(images.skipped),
                "origins": dict(images.origins),
                "notes": list(images.notes),
                **spec,
                **{part: None if a is None else len(a) for part, a in parts.items()},
                "sha256": images.sha256,
            },
        )
        shutil.rmtree(folder, ignore_errors=True)  # processes that have mapped its files keep them
        try:
            temporary.rename(folder)
        except OSError:
            if not folder.is_dir():  # without locks another process may have written it
                raise
        flush(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    size, count = sum(a.nbytes for a in arrays.values()), sum(map(len, arrays.values()))
    _say(f"decoded {count} images, {size / 1e9:.3g} GB")


class _DiskFullError(OSError):
    """The disk has no space for an array."""


class _MappedArrays:
    """Allocator of arrays in files of a folder.

    Args:
        folder: Existing folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.count = 0

    def __call__(self, shape: tuple[int, ...], dtype: DTypeLike = np.uint8) -> np.ndarray:
        """Return an array of zeros in a file of its own, for which the disk has space.

        Raises:
            _DiskFullError: It has not.
        """
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        free = shutil.disk_usage(self.folder).free
        if size > free:
            raise _DiskFullError(f"{self.folder.parent} needs {size:,} bytes, {free:,} are free")
        if not size:
            return in_memory(shape, dtype)
        path = self.folder / f"array-{self.count}.npy"
        self.count += 1
        try:
            array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
            self._reserve(path)
        except OSError as error:  # such as a quota, which the free space does not show
            raise _DiskFullError(f"{self.folder.parent}: {error.strerror or error}") from error
        return array

    def keep(self, array: np.ndarray, path: Path) -> None:
        """Rename the file of an array, or of its first rows; write one for any other array."""
        file = Path(str(getattr(array, "filename", None)))
        if file.parent == self.folder:
            file.rename(path)
        else:
            np.save(path, array)

    def remove_others(self) -> None:
        """Remove the files that have kept their first names."""
        for path in self.folder.glob("array-*.npy"):
            path.unlink()

    def _reserve(self, path: Path) -> None:
        """Reserve the file's blocks: writing to a mapping of a full disk ends the process."""
        if not hasattr(os, "posix_fallocate"):
            return
        with path.open("rb+") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


@contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Hold the lock of a folder of decoded images; wait while another process holds it.

    Yields whether there is a lock. Some network file systems have none: processes that start
    together then decode the images each, and the first to end provides them.
    """
    with open_lock(_lock_file(folder)) as file:
        yield try_lock(file, wait=True) is True


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
