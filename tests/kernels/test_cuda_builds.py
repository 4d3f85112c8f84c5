"""The CUDA kernels compile for every supported architecture: no spilled registers."""

from __future__ import annotations

import ctypes
import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from flowpp.kernels.cuda import build
from flowpp.kernels.cuda.geometry import MAX_THREADS

ARCHITECTURES = (75, 80, 86, 89, 90, 100, 120)
REGISTERS = 65536 // (8 * MAX_THREADS)
"""Of those of a multiprocessor, for eight blocks: at K = 32 no more have space in shared memory.
In float64 a block has half as many threads."""

KEPT = [90]
"""Compiled in every test run; the others where `slow` tests are wanted."""


@pytest.mark.parametrize(
    "architecture",
    [a if a in KEPT else pytest.param(a, marks=pytest.mark.slow) for a in ARCHITECTURES],
)
@pytest.mark.skipif(shutil.which("nvcc") is None, reason="no nvcc here")
def test_nvcc_spills_no_registers(architecture, tmp_path):
    target = tmp_path / "kernels.cubin"
    command = [
        "nvcc", f"-arch=sm_{architecture}", "-std=c++17", "-cubin", "--ptxas-options=-v",
        "-lineinfo", "-o", target, build.SOURCE,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "error" not in done.stderr
    found = re.findall(
        r"Function properties for (\w+)\n\s+(\d+) bytes stack frame, (\d+) bytes spill stores, "
        r"(\d+) bytes spill loads\n.*Used (\d+) registers",
        done.stderr,
    )
    assert sorted(name for name, *_ in found) == sorted(build.KERNELS), done.stderr
    for name, *sizes, registers in found:
        assert sizes == ["0", "0", "0"], name
        assert int(registers) <= REGISTERS * (2 if "float64" in name else 1), name


def nvrtc():
    """Load NVRTC from a package of NVIDIA's or from the toolkit; None where it is missing."""
    folders = []
    for package in ("nvidia.cu13", "nvidia.cuda_nvrtc"):
        try:
            spec = importlib.util.find_spec(package)
        except ModuleNotFoundError:
            continue
        folders += [Path(p) / "lib" for p in (spec and spec.submodule_search_locations) or ()]
    if nvcc := shutil.which("nvcc"):
        folders.append(Path(nvcc).resolve().parents[1] / "lib64")
    for folder in folders:
        for path in sorted(folder.glob("libnvrtc.so.*")):
            for builtins in folder.glob("libnvrtc-builtins.so.*"):
                ctypes.CDLL(str(builtins), mode=ctypes.RTLD_GLOBAL)
            return ctypes.CDLL(str(path))
    return None


def compiled_by_nvrtc(library, text, *options):
    """Return NVRTC's status, its log and the result, as CuPy would get them."""
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    library.nvrtcCreateProgram(ctypes.byref(program), text.encode(), b"k.cu", 0, None, None)
    encoded = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
    status = library.nvrtcCompileProgram(program, len(options), encoded)
    library.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    library.nvrtcGetProgramLog(program, log)
    name = "PTX" if any("compute" in option for option in options) else "CUBIN"
    getattr(library, f"nvrtcGet{name}Size")(program, ctypes.byref(size))
    result = ctypes.create_string_buffer(max(size.value, 1))
    if status == 0:
        getattr(library, f"nvrtcGet{name}")(program, result)
    library.nvrtcDestroyProgram(ctypes.byref(program))
    return status, log.value.decode(), result.raw


@pytest.mark.parametrize(
    "architecture",
    [a if a in KEPT else pytest.param(a, marks=pytest.mark.slow) for a in ARCHITECTURES],
)
def test_nvrtc_compiles_with_the_launchers_options(architecture):
    if (library := nvrtc()) is None:
        pytest.skip("no NVRTC here: pip install nvidia-cuda-nvrtc")
    # CuPy adds the latter two.
    options = *build.OPTIONS, f"-arch=sm_{architecture}", "--device-as-default-execution-space"
    status, log, cubin = compiled_by_nvrtc(library, build.source(), *options)
    assert status == 0, log
    for name in build.KERNELS:
        assert name.encode() in cubin


def test_nvrtc_keeps_subnormal_numbers():
    if (library := nvrtc()) is None:
        pytest.skip("no NVRTC here: pip install nvidia-cuda-nvrtc")
    options = *build.OPTIONS, "-arch=compute_90"
    status, log, ptx = compiled_by_nvrtc(library, build.source(), *options)
    assert status == 0, log
    assert b"fma.rn.f32" in ptx
    assert b"fma.rn.ftz.f32" not in ptx
    _, _, flushed = compiled_by_nvrtc(library, build.source(), *options, "-ftz=true")
    assert b"fma.rn.ftz.f32" in flushed


def test_the_source_is_one_text_without_includes():
    text = build.source()
    assert "#include" not in text
    assert "FLOWPP_FUNCTION float exponential" in text and "rows_in" in text
