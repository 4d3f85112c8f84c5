"""Which backend computes: by device, dtype, the user's wish, and what must see the operations."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from flowpp.kernels import backend, in_use
from flowpp.kernels.backend import backend_for, check_variable, use_backend
from flowpp.kernels.build_error import BuildError
from flowpp.kernels.in_use import kernels_in_use
from flowpp.runtime import notes

X = torch.zeros(2)
GPU = SimpleNamespace(device=torch.device("cuda", 0), dtype=torch.float32)


@pytest.fixture(autouse=True)
def kernels(monkeypatch):
    """Kernels that are available on every device, by source."""
    available = {"mixture_logistic.cpp", "layers.cpp", "attention.cpp", "convolution.cpp", "cuda"}

    def library(source):
        if source not in available:
            raise BuildError(f"no {source}")

    def require(x):
        if "cuda" not in available:
            raise RuntimeError("backend 'cuda' needs a CUDA device")

    monkeypatch.delenv(backend.VARIABLE, raising=False)
    monkeypatch.setattr(backend, "_requested", [])
    monkeypatch.setattr(backend.build, "is_available", lambda source: source in available)
    monkeypatch.setattr(backend.build, "library", library)
    monkeypatch.setattr(backend.cuda, "is_available", lambda index: "cuda" in available)
    monkeypatch.setattr(backend.cuda, "require", require)
    monkeypatch.setattr(notes, "_noted", set())
    return available


def test_a_device_has_its_own_kernels_where_they_are_available(kernels, capsys):
    assert (backend_for(X), backend_for(GPU)) == ("cpu", "cuda")
    assert backend_for(X.double()) == "cpu" and backend_for(X.half()) == "torch"
    assert backend_for(X.to("meta")) == "torch"
    kernels.clear()
    assert (backend_for(X), backend_for(GPU)) == ("torch", "torch")
    assert capsys.readouterr().err == (
        "note: without CuPy torch's own operations compute the mixture on the GPU, with more time "
        "and memory: pip install 'flowpp[gpu]'\n"
    )


@pytest.mark.parametrize("kernel", ["layers", "attention", "convolution"])
def test_layers_have_kernels_for_plain_float32_on_the_cpu(kernels, kernel):
    assert backend_for(X, X, kernel=kernel) == "cpu"
    for other in (X.double(), X.to("meta"), GPU):
        assert backend_for(X, other, kernel=kernel) == "torch"
    with torch.autocast("cpu", torch.bfloat16):
        assert backend_for(X, kernel=kernel) == "torch" and backend_for(X) == "cpu"
    kernels.remove(f"{kernel}.cpp")
    assert backend_for(X, kernel=kernel) == "torch" and backend_for(X) == "cpu"


def test_what_hides_memory_is_computed_by_torch(monkeypatch):
    monkeypatch.setattr(backend, "hides_memory", lambda: True)
    assert backend_for(X) == backend_for(GPU) == "torch"


def test_the_last_wish_wins_until_its_block_is_left():
    with use_backend("torch"):
        assert backend_for(X) == "torch"
        with pytest.raises(KeyError), use_backend("cpu"):
            assert backend_for(X) == "cpu"
            raise KeyError
        assert backend_for(X) == "torch"
    assert backend_for(X) == "cpu"


def test_wishes_that_cannot_be_met(kernels):
    with use_backend("cpu"), pytest.raises(RuntimeError, match="^backend 'cpu' needs tensors on"):
        backend_for(GPU)
    with use_backend("cuda"):
        assert backend_for(GPU) == "cuda"
    kernels.clear()
    with use_backend("cuda"), pytest.raises(RuntimeError, match="needs a CUDA device"):
        backend_for(GPU)
    for kernel in ("mixture_logistic", "layers", "attention", "convolution"):
        with use_backend("cpu"), pytest.raises(BuildError, match=f"^no {kernel}.cpp$"):
            backend_for(X, kernel=kernel)


def test_the_variable_counts_where_nothing_else_is_asked_for(monkeypatch):
    monkeypatch.setenv("FLOWPP_BACKEND", "torch")
    assert backend_for(X) == "torch"
    with use_backend("auto"):
        assert backend_for(X) == "cpu"
    monkeypatch.setenv("FLOWPP_BACKEND", "cpp")
    with pytest.raises(
        ValueError, match="^FLOWPP_BACKEND must be one of auto, .* got 'cpp', which"
    ):
        backend_for(X)
    with pytest.raises(
        ValueError, match="^backend must be one of auto, torch, cpu, cuda, got 'x'$"
    ):
        use_backend("x").__enter__()


def test_commands_check_the_variable(kernels, monkeypatch):
    kernels.clear()
    check_variable("cpu")
    monkeypatch.setenv("FLOWPP_BACKEND", "cuda")
    with pytest.raises(ValueError, match="^FLOWPP_BACKEND must be available, got backend 'cuda'"):
        check_variable("cpu")
    monkeypatch.setenv("FLOWPP_BACKEND", "none")
    with pytest.raises(ValueError, match="^FLOWPP_BACKEND must be one of"):
        check_variable("cpu")
    asked = []
    monkeypatch.setattr(backend, "backend_for", asked.append)
    monkeypatch.setattr(backend, "choose_device", {"auto": "meta"}.get)
    check_variable("auto")
    assert [(x.device.type, x.numel()) for x in asked] == [("meta", 0)]


def test_the_kernels_in_use_are_named(kernels, monkeypatch):
    monkeypatch.setattr(in_use, "_cpu_code", lambda compiled: f"code of {len(compiled)}")
    monkeypatch.setattr(in_use, "_compiler", lambda: "g++ 13")
    monkeypatch.setattr(in_use, "_cuda_code", lambda: "code of cuda")
    monkeypatch.setattr(in_use, "_nvrtc", lambda: "NVRTC 13.0")

    def facts(kernels, code, compiler):
        return {"kernels": kernels, "kernel_code": code, "compiler": compiler}

    cpu, meta = torch.device("cpu"), torch.device("meta")
    assert kernels_in_use(meta) == facts("torch", None, None)
    assert kernels_in_use(cpu) == facts("cpu", "code of 4", "g++ 13")
    kernels -= {"attention.cpp", "layers.cpp"}
    name = "cpu, but torch for layers, attention"
    assert kernels_in_use(cpu) == facts(name, "code of 2", "g++ 13")
    kernels.clear()
    assert kernels_in_use(cpu) == facts("torch", None, None)
    monkeypatch.setattr(in_use, "backend_for", lambda x: "cuda")
    assert kernels_in_use(meta) == facts("cuda", "code of cuda", "NVRTC 13.0")
