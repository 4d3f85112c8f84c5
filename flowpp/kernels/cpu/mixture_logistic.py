"""The kernels compiled for the CPU, by the machine's C++ compiler on first use; cached."""

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
from pathlib import Path

import torch
from torch import Tensor

from flowpp.runtime.machine import processor_key

FOLDER = Path(__file__).parent
SOURCES = (
    "mixture_logistic.cpp",
    "../cuda/mixture_logistic.cu",
    "parallel.h",
    "transpose.h",
)
"""What is compiled, and what it includes."""
FLAGS: tuple[str, ...] = (
    "-std=c++17", "-O3", "-march=native", "-shared", "-fPIC", "-pthread",
    # Neither changes a result: errno is not read, and floating-point traps are off in Python.
    "-fno-math-errno", "-fno-trapping-math",
)  # fmt: skip
if platform.machine() in ("x86_64", "AMD64"):
    # Compilers take half of AVX-512's width by themselves: measured, 1.2 to 1.5 times the time.
    FLAGS += ("-mprefer-vector-width=512",)
NAMES = {torch.float32: "float32", torch.float64: "float64"}
SCALARS = {torch.float32: ctypes.c_float, torch.float64: ctypes.c_double}
SMALL = 1 << 14
"""Below so many parameters a second thread costs more than it saves."""


class HostBuildError(RuntimeError):
    """No compiler, or it failed; the message says which and what it printed."""


class Layout(ctypes.Structure):
    """Where parameter k of element n lies; see mixture_logistic.cpp."""

    _fields_ = [
        ("inner_size", ctypes.c_long),
        ("outer_stride", ctypes.c_long),
        ("inner_stride", ctypes.c_long),
        ("component_stride", ctypes.c_long),
    ]


def is_available() -> bool:
    """Whether the compiled kernels can be used here; builds them if need be."""
    try:
        library()
    except HostBuildError:
        return False
    return True


@functools.cache
def library() -> ctypes.CDLL:
    """The compiled kernels of the mixture.

    Raises:
        HostBuildError: no C++ compiler was found, or it refused.
    """
    return compiled(SOURCES)


def compiled(sources: tuple[str, ...]) -> ctypes.CDLL:
    """A library of the first source, which may include the others; built if the cache has none.

    Raises:
        HostBuildError: no C++ compiler was found, or it refused.
    """
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        raise HostBuildError("backend 'cpp' needs a C++ compiler (g++, clang++ or $CXX), got none")
    target = cache_folder() / f"{Path(sources[0]).stem}-{_key(compiler, sources)}.so"
    if not target.exists():
        _build(compiler, sources[0], target)
    try:
        loaded = ctypes.CDLL(str(target))
    except OSError as error:
        raise HostBuildError(f"{target} cannot be loaded: {error}") from error
    loaded.flowpp_use_pool(torch_pool())
    return loaded


@functools.cache
def torch_pool() -> ctypes.c_void_p | None:
    """GOMP_parallel of the OpenMP runtime that torch computes with; None where it is not found.

    Clang's and Intel's runtimes have it too. Where torch's library does not name its own, the
    first one that the process has loaded is taken.
    """
    for own in (Path(torch.__file__).parent / "lib").glob("libtorch_cpu.*"):
        try:  # a name is looked for in what the library depends on, too
            return ctypes.cast(ctypes.CDLL(str(own)).GOMP_parallel, ctypes.c_void_p)
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


def cache_folder() -> Path:
    """`$FLOWPP_CACHE`, or `flowpp` below `$XDG_CACHE_HOME` or `~/.cache`."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("FLOWPP_CACHE") or Path(base) / "flowpp")


def forward(x: Tensor, logits: Tensor, means: Tensor, log_scales: Tensor) -> tuple[Tensor, Tensor]:
    """y and log dy/dx, both contiguous of shape S; parameters of shape S + (K,), any strides."""
    x = x.contiguous()
    y, slope = torch.empty_like(x), torch.empty_like(x)
    parameters, layouts = _parameters(logits, means, log_scales)
    _call(
        "forward", x, *parameters, layouts, x.numel(), logits.shape[-1], y, slope,
        _threads(logits),
    )  # fmt: skip
    return y, slope


def backward(
    x: Tensor, logits: Tensor, means: Tensor, log_scales: Tensor, grad_y: Tensor, grad_l: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x and of the parameters; the latter with the parameters' own strides."""
    x, grad_y, grad_l = x.contiguous(), grad_y.contiguous(), grad_l.contiguous()
    grad_x = torch.empty_like(x)
    parameters, layouts = _parameters(logits, means, log_scales)
    gradients, targets = _parameters(*map(torch.empty_like, parameters))
    _call(
        "backward", x, *parameters, layouts, x.numel(), logits.shape[-1], grad_y, grad_l, grad_x,
        *gradients, targets, _threads(logits),
    )  # fmt: skip
    return grad_x, gradients[0], gradients[1], gradients[2]


def inverse(
    y: Tensor,
    logits: Tensor,
    means: Tensor,
    log_scales: Tensor,
    ulps: float,
    max_evaluations: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Root, residual, bracket's width, evaluations (one above the cap if that was not enough)."""
    y = y.contiguous()
    root, residual, width = (torch.empty_like(y) for _ in range(3))
    evaluations = torch.empty_like(y, dtype=torch.int64)
    parameters, layouts = _parameters(logits, means, log_scales)
    _call(
        "inverse", y, *parameters, layouts, y.numel(), logits.shape[-1], SCALARS[y.dtype](ulps),
        max_evaluations, root, residual, width, evaluations, _threads(logits),
    )  # fmt: skip
    return root, residual, width, evaluations


def _call(name: str, first: Tensor, *arguments: object) -> None:
    function = getattr(library(), f"mixture_{name}_{NAMES[first.dtype]}")
    function(*(_argument(a) for a in (first, *arguments)))


def _argument(value: object) -> object:
    if isinstance(value, Tensor):
        return ctypes.c_void_p(value.data_ptr())
    if isinstance(value, int):
        return ctypes.c_long(value)
    return value


def _threads(parameters: Tensor) -> int:
    return 1 if parameters.numel() < SMALL else torch.get_num_threads()


def _parameters(*tensors: Tensor) -> tuple[list[Tensor], ctypes.Array]:
    """Each tensor and its layout; copied only if its axes cannot be walked as outer and inner."""
    kept = [t if _layout(t) is not None else t.contiguous() for t in tensors]
    layouts = [layout for t in kept if (layout := _layout(t)) is not None]  # dense ones have one
    return kept, (Layout * len(kept))(*layouts)


def _layout(parameter: Tensor) -> Layout | None:
    """Outer and inner axes of S + (K,), the inner ones and the outer ones each of one stride."""
    shape, strides = parameter.shape[:-1], parameter.stride()[:-1]
    inner_size, inner_stride, outer_stride = 1, 0, 0
    outer_size = 1
    for size, stride in zip(reversed(shape), reversed(strides), strict=True):
        if size == 1:
            continue
        if inner_size == 1:
            inner_size, inner_stride = size, stride
        elif outer_size == 1 and stride == inner_size * inner_stride:
            inner_size *= size
        elif outer_size == 1:
            outer_size, outer_stride = size, stride
        elif stride == outer_size * outer_stride:
            outer_size *= size
        else:
            return None
    return Layout(inner_size, outer_stride, inner_stride, parameter.stride(-1))


def _key(compiler: str, sources: tuple[str, ...]) -> str:
    digest = hashlib.sha256(" ".join((compiler, *FLAGS, platform.machine())).encode())
    for name in sources:
        digest.update((FOLDER / name).read_bytes())
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
                raise HostBuildError(f"{compiler} failed on {source}: {done.stderr[-500:]}")
            built.replace(target)
    except OSError as error:
        raise HostBuildError(f"cannot build the kernels into {target.parent}: {error}") from error
