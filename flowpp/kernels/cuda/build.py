"""Compilation of the CUDA kernels by NVRTC, which CuPy brings: on first use, into a cache."""

from __future__ import annotations

import functools
import hashlib
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from flowpp.kernels import cache
from flowpp.kernels.build_error import BuildError

SOURCE = Path(__file__).parent / "mixture_kernels.cu"
OPTIONS = ("--std=c++17",)
"""Subnormal numbers are kept: CuPy's own cache compiles with -ftz=true, which loses them."""
KERNELS = tuple(
    f"mixture_{direction}_{dtype}"
    for direction in ("forward", "backward", "inverse")
    for dtype in ("float32", "float64")
)


@functools.cache
def cupy() -> Any:
    """Return the module, or None where it is not installed."""
    try:
        import cupy as module
    except ImportError:
        return None
    return module


def source() -> str:
    """Return the source of the kernels as one text, with included files in place."""
    text = SOURCE.read_text()
    return re.sub(
        r'^#include "(.+)"$',
        lambda match: (SOURCE.parent / match[1]).read_text(),
        text,
        flags=re.MULTILINE,
    )


@functools.cache
def functions(device: int) -> dict[str, Any]:
    """Return the kernels on a device by name, compiled and loaded.

    This waits for the device; so before a CUDA graph is captured, it must have been called.

    Raises:
        BuildError: They cannot be compiled or loaded; a later call does not try again.
    """
    outcome = _outcome(device)
    if isinstance(outcome, str):
        raise BuildError(outcome)
    return outcome


@functools.cache
def _outcome(device: int) -> dict[str, Any] | str:
    """Return the kernels, or the message of the error."""
    try:
        with torch.cuda.device(device), compiled(device) as path:
            module = cupy().RawModule(path=str(path))
            kernels = {name: module.get_function(name) for name in KERNELS}
            # A driver that loads lazily does so when something is asked about a kernel.
            assert all(kernel.num_regs for kernel in kernels.values())
            return {name: kernel.kernel for name, kernel in kernels.items()}
    except (torch.OutOfMemoryError, MemoryError):
        raise  # no fault of the kernels
    except Exception as error:  # noqa: BLE001  (NVRTC's and the driver's have no common class)
        first = next(iter(str(error).strip().splitlines()), "no message")
        return f"the CUDA kernels cannot be compiled or loaded: {type(error).__name__}: {first}"


def code_hash() -> str:
    """Return a hash of the source and of the compiler's options."""
    return hashlib.sha256(repr((source(), OPTIONS)).encode()).hexdigest()[:16]


@contextmanager
def compiled(device: int) -> Iterator[Path]:
    """Yield the file of the kernels for the current device, compiled if the cache lacks it.

    Where the cache cannot be used, the file is deleted after the block.
    """
    major, minor = torch.cuda.get_device_capability(device)
    version = cupy().cuda.nvrtc.getVersion()
    key = hashlib.sha256(repr((source(), OPTIONS, major, minor, version)).encode())
    name = f"mixture_kernels-sm_{major}{minor}-{key.hexdigest()[:16]}.cubin"
    try:
        target = cache.folder() / name
        if cache.must_build(target):
            start = time.time()
            with cache.exclusive(target, "mixture_kernels") as folder:
                if cache.must_build(target, since=start):
                    cache.put(_compile(folder / name), target)
    except cache.CacheError as error:
        cache.note_unkept(error)
        with tempfile.TemporaryDirectory(prefix="flowpp-", ignore_cleanup_errors=True) as private:
            yield _compile(Path(private) / name)
        return
    yield target


def _compile(target: Path) -> Path:
    content, _ = cupy().cuda.compiler.compile_using_nvrtc(source(), OPTIONS)
    try:
        target.write_bytes(content)
    except OSError as error:
        raise cache.CacheError(f"{target.parent} cannot be written: {error}") from error
    return target
