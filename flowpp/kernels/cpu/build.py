"""Build of the CPU kernels by the machine's C++ compiler: on first use, into a cache."""

from __future__ import annotations

import ctypes
import functools
import platform
import re
from pathlib import Path

import torch

from flowpp.kernels.build_error import BuildError
from flowpp.runtime.notes import note_once

from .compilation import Compilation
from .compiler import find_compiler
from .failures import forget_failures

FOLDER = Path(__file__).parent
FLAGS: tuple[str, ...] = (
    "-std=c++17", "-O3", "-march=native", "-shared", "-fPIC", "-pthread",
    # Neither changes a result: errno is not read, and floating-point traps are off in Python.
    "-fno-math-errno", "-fno-trapping-math",
)  # fmt: skip
if platform.machine() in ("x86_64", "AMD64"):
    # By default compilers use half of AVX-512's width, which takes 1.2 to 1.5 times as long.
    FLAGS += ("-mprefer-vector-width=512",)

SLOWER = "training takes 1.5 to 2 times as long"
"""Measured with the preset digits on one core of a processor with AVX-512."""
REMEDY = "(CXX chooses a compiler; FLOWPP_BACKEND=torch uses none and omits this note)"


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
    """Return a line on what is lost without compiled kernels, why, and what to do."""
    lines = str(error).splitlines()
    cause = next((line for line in lines if "error:" in line), "")
    first = lines[0] if cause in ("", lines[0]) else f"{lines[0]} {cause}"
    remedy = lines[-1] if lines[-1].startswith("(at ") else REMEDY
    return (
        f"note: without compiled kernels torch's own operations compute on the CPU, {SLOWER}: "
        f"{' '.join(first.split())[:400]} {remedy}"
    )


@functools.cache
def library(source: str) -> ctypes.CDLL:
    """Load the library of a source file, building it if the cache lacks it.

    A failure is remembered: the process does not try again, and others do so after a day or with
    another compiler, other flags or other sources.

    Args:
        source: Name of a `.cpp` file in this folder.

    Raises:
        BuildError: No C++ compiler was found, it failed, or its result cannot be loaded.
    """
    outcome = _outcome(source)
    if isinstance(outcome, str):
        raise BuildError(outcome)
    return outcome


def forget() -> None:
    """Forget which libraries were loaded and which failed, as in a new process."""
    for function in (is_available, library, _outcome):
        function.cache_clear()
    forget_failures()


@functools.cache
def _outcome(source: str) -> ctypes.CDLL | str:
    """Return the library, or the message of the error."""
    try:
        loaded = Compilation(FOLDER / source, FLAGS, find_compiler()).library()
    except (BuildError, OSError) as error:
        return str(error)
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
