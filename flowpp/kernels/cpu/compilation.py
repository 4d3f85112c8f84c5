"""One C++ source as a loaded library: from the cache, or compiled into it."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import platform
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from flowpp.kernels import cache
from flowpp.kernels.build_error import BuildError
from flowpp.runtime.machine import processor_key
from flowpp.runtime.notes import note_once

from .compiler import Compiler, CompilerError
from .failures import check_failures, remember_failure, remove_records

DURATION = "about a minute"


@dataclass(frozen=True)
class Compilation:
    """A source file, the flags it is compiled with, and the compiler."""

    source: Path
    flags: tuple[str, ...]
    compiler: Compiler

    def library(self) -> ctypes.CDLL:
        """Load the library from the cache, compiling it if it is missing or damaged.

        Where the cache cannot be used, the library is compiled for this process alone.

        Raises:
            BuildError: The compiler failed, now or when it was last tried, or the library cannot
                be loaded.
        """
        try:
            target = cache.folder() / f"{self.name}.so"
            if cache.must_build(target):
                check_failures(self._records, target.parent)
                self._build(target)
            return load(target)
        except cache.CacheError as error:
            check_failures(self._records, None)
            cache.note_unkept(error)
        with _temporary_folder() as folder:
            built = Path(folder) / f"{self.name}.so"
            self._compile(built, None)
            return _open(built)

    @functools.cached_property
    def name(self) -> str:
        """Name of the library, with a hash of all that it depends on."""
        parts = (self._environment, sources_hash([self.source], self.flags))
        return f"{self.source.stem}-{_short_hash(repr(parts).encode())}"

    @functools.cached_property
    def _environment(self) -> str:
        """Hash of all that a library depends on besides its source."""
        machine = (
            platform.machine(), platform.libc_ver(), torch.backends.cpu.get_cpu_capability(),
        )  # fmt: skip
        return _short_hash(repr((self.compiler.identity, self.flags, machine)).encode(),
                           processor_key())  # fmt: skip

    @property
    def _records(self) -> tuple[str, str]:
        """Names of the records of failures: of this source, and of every source."""
        return self.name, f"compiler-{self._environment}"

    def _build(self, target: Path) -> None:
        """Compile into the cache, unless another process does."""
        start = time.time()
        with cache.exclusive(target, self.source.stem) as folder:
            check_failures(self._records, target.parent)  # another process may have failed
            if cache.must_build(target, since=start):
                self._compile(folder / target.name, target.parent)
                cache.put(folder / target.name, target)
                remove_records(self._records, target.parent)

    def _compile(self, target: Path, kept_in: Path | None) -> None:
        note_once(
            "compilation",
            f"compiling the CPU kernels with {self.compiler}, once for this processor: {DURATION}"
            + (f"; kept in {kept_in}" if kept_in else ""),
        )
        try:
            self.compiler.compile(self.source, self.flags, target)
        except CompilerError as error:
            if error.disk_full and kept_in:
                raise cache.CacheError(str(error)) from error
            name = self._records[1 if error.any_source else 0]
            remember_failure(name, kept_in if error.lasting else None, error)
            raise


def load(path: Path) -> ctypes.CDLL:
    """Load a library of the cache, or a copy of it where the cache's files are not executable.

    Raises:
        BuildError: It cannot be loaded, or is another library.
    """
    try:
        return _open(path)
    except BuildError as error:
        try:
            with _temporary_folder() as folder:
                copy = _open(Path(shutil.copy(path, folder)))
        except (BuildError, OSError):
            raise BuildError(f"{error}; {cache.REBUILD}=1 compiles it anew") from None
        note_once(
            "not executable",
            f"note: {error}; a copy in {tempfile.gettempdir()} is used: FLOWPP_CACHE should name "
            "a folder that is not mounted noexec",
        )
        return copy


def sources_hash(sources: Iterable[Path], flags: tuple[str, ...]) -> str:
    """Return a hash of source files, of the files that they include, and of flags."""
    files = dict.fromkeys(file for source in sources for file in included_files(source))
    return _short_hash(repr(flags).encode(), *(file.read_bytes() for file in files))


def included_files(path: Path) -> Iterator[Path]:
    """Yield a source file and the files of this package that it includes, at any depth.

    Raises:
        OSError: A file is missing.
    """
    files = [path.resolve()]
    for file in files:  # grows during the loop
        yield file
        names = re.findall(r'^#include "(.+)"', file.read_text(), flags=re.MULTILINE)
        new = ((file.parent / name).resolve() for name in names)
        files += [included for included in new if included not in files]


def _open(path: Path) -> ctypes.CDLL:
    try:
        loaded = ctypes.CDLL(str(path))
        _ = loaded.flowpp_use_pool  # all libraries of these sources have it
    except (OSError, AttributeError) as error:
        reason = str(error).removeprefix(f"{path}: ")
        raise BuildError(f"{path} cannot be loaded: {reason}") from error
    return loaded


def _temporary_folder() -> tempfile.TemporaryDirectory[str]:
    # A loaded library can be deleted, but not on every system.
    return tempfile.TemporaryDirectory(prefix="flowpp-", ignore_cleanup_errors=True)


def _short_hash(*contents: bytes) -> str:
    digest = hashlib.sha256()
    for content in contents:
        digest.update(content)
    return digest.hexdigest()[:16]
