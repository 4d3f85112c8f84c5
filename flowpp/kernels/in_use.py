"""The kernels that compute on a device, and what their bits depend on."""

from __future__ import annotations

import functools
from typing import Any, get_args

import torch

from .backend import Kernel, backend_for
from .build_error import BuildError
from .cpu import build as cpu
from .cpu.compilation import sources_hash
from .cpu.compiler import find_compiler
from .cuda import build as cuda


def kernels_in_use(device: torch.device) -> dict[str, Any]:
    """Return the backend that computes float32 on a device, its version and its compiler.

    Returns:
        `kernels`: "cpu", "cuda" or "torch", and what torch computes where some kernels are
        missing, or where a dispatch mode must see each operation; `kernel_code`: a hash of their
        sources and flags; `compiler`: its version. The latter two are None for "torch".
    """
    x = torch.empty(0, device=device)
    if device.type != "cpu":
        backend = backend_for(x)
        described = (_cuda_code(), _nvrtc()) if backend == "cuda" else (None, None)
        return _facts(backend, *described)
    compiled = tuple(k for k in get_args(Kernel) if backend_for(x, kernel=k) == "cpu")
    if not compiled:
        return _facts("torch", None, None)
    missing = [kernel for kernel in get_args(Kernel) if kernel not in compiled]
    name = f"cpu, but torch for {', '.join(missing)}" if missing else "cpu"
    return _facts(name, _cpu_code(compiled), _compiler())


def _facts(kernels: str, code: str | None, compiler: str | None) -> dict[str, Any]:
    return {"kernels": kernels, "kernel_code": code, "compiler": compiler}


@functools.cache
def _cpu_code(kernels: tuple[str, ...]) -> str:
    return sources_hash([cpu.FOLDER / f"{kernel}.cpp" for kernel in kernels], cpu.FLAGS)


@functools.cache
def _compiler() -> str | None:
    try:
        compiler = find_compiler()
    except BuildError:
        return None
    return compiler.version() or str(compiler)


@functools.cache
def _cuda_code() -> str:
    return cuda.code_hash()


@functools.cache
def _nvrtc() -> str | None:
    cupy = cuda.cupy()
    if cupy is None:  # an emulated device
        return None
    major, minor = cupy.cuda.nvrtc.getVersion()
    return f"NVRTC {major}.{minor}"
