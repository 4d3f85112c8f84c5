"""Compilation of the CUDA kernels by NVRTC, which CuPy brings: on first use, into a cache."""

from __future__ import annotations

import functools
import hashlib
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import torch

from flowpp.runtime.files import cache_folder

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
    """
    with torch.cuda.device(device):
        module = cupy().RawModule(path=str(_cubin(device)))
        kernels = {name: module.get_function(name) for name in KERNELS}
        # A driver that loads lazily does so when something is asked about a kernel.
        assert all(kernel.num_regs for kernel in kernels.values())
        return {name: kernel.kernel for name, kernel in kernels.items()}


def _cubin(device: int) -> Path:
    """Return the file of the kernels for the current device, building it if the cache lacks it."""
    major, minor = torch.cuda.get_device_capability(device)
    version = cupy().cuda.nvrtc.getVersion()
    key = hashlib.sha256(repr((source(), OPTIONS, major, minor, version)).encode())
    target = cache_folder() / f"mixture_kernels-sm_{major}{minor}-{key.hexdigest()[:16]}.cubin"
    if not target.exists():
        compiler = cupy().cuda.compiler
        compiled, _ = compiler.compile_using_nvrtc(source(), OPTIONS)
        _write(target, compiled)
    return target


def _write(target: Path, content: bytes) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    Path(name).replace(target)
