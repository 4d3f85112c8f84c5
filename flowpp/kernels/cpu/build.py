"""Build of the CPU kernels by the machine's C++ compiler: on first use, into a cache."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from flowpp.runtime.files import cache_folder
from flowpp.runtime.machine import processor_key
from flowpp.runtime.notes import note_once

FOLDER = Path(__file__).parent
FLAGS: tuple[str, ...] = (
    "-std=c++17", "-O3", "-march=native", "-shared", "-fPIC", "-pthread",
    # Neither changes a result: errno is not read, and floating-point traps are off in Python.
    "-fno-math-errno", "-fno-trapping-math",
)  # fmt: skip
if platform.machine() in ("x86_64", "AMD64"):
    # By default compilers use half of AVX-512's width, which takes 1.2 to 1.5 times as long.
    FLAGS += ("-mprefer-vector-width=512",)

DURATION = "about a minute"
SLOWER = "training takes 1.5 to 2 times as long"
"""Measured with the preset digits on one core of a processor with AVX-512."""


class BuildError(RuntimeError):
    """Raised where a kernel library cannot be compiled or loaded."""


@functools.cache
def is_available(source: str) -> bool:
    """Return whether the library of a source file can be loaded, building it if need be."""
    try:
        library(source)
    except BuildError as error:
        note_once("no kernels", _without_kernels(error))
        return False
    return True


def _without_kernels(error: BuildError) -> str:
    """Return a line on what is lost without compiled kernels, and why."""
    lines = str(error).splitlines()
    cause = next((line for line in lines if "error:" in line), "")
    first = lines[0] if cause in ("", lines[0]) else f"{lines[0]} {cause}"
    return (
        f"note: without compiled kernels torch's own operations compute on the CPU, {SLOWER}: "
        f"{' '.join(first.split())[:400]}"
    )


@functools.cache
def library(source: str) -> ctypes.CDLL:
    """Load the library of a source file, building it if the cache lacks it.

    Args:
        source: Name of a `.cpp` file in this folder.

    Raises:
        BuildError: No C++ compiler was found, it failed, or its result cannot be loaded.
    """
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        raise BuildError("backend 'cpu' needs a C++ compiler (g++, clang++ or $CXX), got none")
    target = cache_folder() / f"{Path(source).stem}-{_key(compiler, source)}.so"
    if not target.exists():
        note_once(
            "compilation",
            f"compiling the CPU kernels with {compiler}, once for this processor: {DURATION}; "
            f"kept in {target.parent}",
        )
        _build(compiler, source, target)
    try:
        loaded = ctypes.CDLL(str(target))
    except OSError as error:
        raise BuildError(f"{target} cannot be loaded: {error}") from error
    loaded.flowpp_use_pool(torch_pool())
    return loaded


@functools.cache
def torch_pool() -> ctypes.c_void_p | None:
    """Return GOMP_parallel of the OpenMP runtime that torch uses; None where it is not found.

    Clang's and Intel's runtimes export it too. Where torch's library does not depend on a runtime
    of its own, the first one loaded in the process is taken.
    """
    for path in (Path(torch.__file__).parent / "lib").glob("libtorch_cpu.*"):
        try:  # symbols are looked up in the library's dependencies, too
            return ctypes.cast(ctypes.CDLL(str(path)).GOMP_parallel, ctypes.c_void_p)
        except (OSError, AttributeError):
            continue
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return None
    for file in dict.fromkeys(line.split(maxsplit=5)[-1] for line in lines):
        if re.search(r"/lib(gomp|omp|iomp5)\b[^/]*$", file):
            try:
                return ctypes.cast(ctypes.CDLL(file).GOMP_parallel, ctypes.c_void_p)
            except (OSError, AttributeError):
                continue
    return None


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


def _key(compiler: str, source: str) -> str:
    digest = hashlib.sha256(" ".join((compiler, *FLAGS, platform.machine())).encode())
    for file in included_files(FOLDER / source):
        digest.update(file.read_bytes())
    digest.update(processor_key())
    return digest.hexdigest()[:16]


def _build(compiler: str, source: str, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            built = Path(folder) / target.name
            command = [compiler, *FLAGS, str(FOLDER / source), "-o", str(built)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise BuildError(f"{compiler} failed on {source}: {done.stderr[-500:]}")
            built.replace(target)
    except OSError as error:
        raise BuildError(f"cannot build the kernels into {target.parent}: {error}") from error
