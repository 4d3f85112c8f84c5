"""Compiled CUDA kernels: damaged files are rebuilt, failures are remembered, with a fake CuPy."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import pytest
import torch

from flowpp.kernels import backend, cache
from flowpp.kernels.build_error import BuildError
from flowpp.kernels.cuda import build, launch
from flowpp.runtime import notes


class FakeCuPy:
    """Counts compilations, and loads only what it has compiled."""

    def __init__(self):
        self.compilations, self.error = 0, None
        compiler = SimpleNamespace(compile_using_nvrtc=self.compile)
        nvrtc = SimpleNamespace(getVersion=lambda: (13, 0))
        self.cuda = SimpleNamespace(compiler=compiler, nvrtc=nvrtc)

    def compile(self, source, options):
        self.compilations += 1
        if self.error is not None:
            raise self.error
        return b"cubin", None

    def RawModule(self, path):  # noqa: N802
        with open(path, "rb") as file:
            assert file.read() == b"cubin"
        return SimpleNamespace(get_function=lambda name: SimpleNamespace(num_regs=1, kernel=name))


def forget():
    for function in (build.functions, build._outcome, launch.is_available):
        getattr(function, "cache_clear", lambda: None)()


@pytest.fixture
def cupy(monkeypatch, tmp_path):
    fake = FakeCuPy()
    monkeypatch.setenv("FLOWPP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(notes, "_noted", set())
    monkeypatch.setattr(build, "cupy", lambda: fake)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())
    forget()
    yield fake
    monkeypatch.undo()
    forget()


def functions():
    forget()
    return build.functions(0)


def test_kernels_are_compiled_once_for_all_processes(cupy):
    for _ in range(3):
        assert set(functions()) == set(build.KERNELS)
    assert cupy.compilations == 1


@pytest.mark.parametrize("content", [b"", b"cub", bytes(5)])
def test_a_damaged_file_is_rebuilt(cupy, tmp_path, content):
    functions()
    (cubin,) = (tmp_path / "cache").glob("*.cubin")
    cubin.write_bytes(content)
    functions()
    assert cupy.compilations == 2 and cache.is_intact(cubin)


def test_without_a_cache_the_process_compiles_for_itself(cupy, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setenv("FLOWPP_CACHE", str(tmp_path / "file"))
    functions()
    functions()
    assert cupy.compilations == 2
    assert capsys.readouterr().err.count("note: compiled kernels are not kept") == 1


def test_kernels_that_do_not_compile_are_tried_once_and_torch_computes(cupy, capsys):
    cupy.error = ValueError("nvrtc: error: invalid value for --gpu-architecture\nmore")
    for _ in range(5):
        assert backend._available("cuda", "mixture_logistic") == "torch"
        with pytest.raises(BuildError, match="ValueError: nvrtc: error: invalid value"):
            build.functions(0)
    assert cupy.compilations == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "torch's own operations compute the mixture" in line and "invalid value" in line


def test_only_the_device_of_a_tensor_is_used(cupy, monkeypatch):
    """Another device may have no memory left."""
    asked = []

    def capability(device):
        asked.append(device)
        return 9, 0

    monkeypatch.setattr(torch.cuda, "get_device_capability", capability)
    x = SimpleNamespace(device=torch.device("cuda", 1), dtype=torch.float32)
    assert backend.backend_for(x) == "cuda"
    assert asked == [1]


def test_lack_of_memory_is_not_taken_for_a_failure(cupy):
    cupy.error = torch.OutOfMemoryError("out of memory")
    with pytest.raises(torch.OutOfMemoryError):
        functions()
    cupy.error = None
    assert build.functions(0)
