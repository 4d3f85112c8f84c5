"""A build, and a backend that is missing, are said once on standard error."""

from __future__ import annotations

import pytest
import torch

from flowpp.kernels import backend
from flowpp.kernels.backend import backend_for, use_backend
from flowpp.kernels.cpu import build
from flowpp.kernels.cpu import compiler as compilers
from flowpp.kernels.cpu.compilation import DURATION
from flowpp.runtime import notes

KERNELS = ("mixture_logistic", "layers", "attention", "convolution")


@pytest.fixture(autouse=True)
def nothing_noted(monkeypatch):
    monkeypatch.setattr(notes, "_noted", set())


@pytest.mark.skipif(not build.is_available("layers.cpp"), reason="no C++ compiler here")
def test_a_build_is_announced_once_and_a_cached_one_not(build_again, tmp_path, capsys):
    build_again("-O0")
    for _ in range(2):
        for kernel in ("layers", "layers"):
            assert backend_for(torch.zeros(1), kernel=kernel) == "cpu"
        build.forget()
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert printed.startswith("compiling the CPU kernels with ") and str(tmp_path) in printed
    assert DURATION in printed


@pytest.mark.parametrize(
    ("compiler", "cause"),
    [
        (None, "needs a C++ compiler (g++, clang++, c++ or $CXX), got none"),
        ("false", "false failed on"),
    ],
)
def test_missing_kernels_are_noted_once_with_cause_and_cost(
    compiler, cause, build_again, monkeypatch, capsys
):
    build_again()
    monkeypatch.delenv("CXX", raising=False)
    if compiler is None:
        monkeypatch.setattr(compilers.shutil, "which", lambda name: None)
    else:
        monkeypatch.setenv("CXX", compiler)
    for kernel in KERNELS:
        assert backend_for(torch.zeros(1), kernel=kernel) == "torch"
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note")]
    assert len(lines) == 1 and cause in lines[0] and build.SLOWER in lines[0]


@pytest.mark.skipif(not build.is_available("layers.cpp"), reason="no C++ compiler here")
def test_the_note_shows_the_compilers_first_error(build_again, capsys):
    build_again("-Dtemplate=oops")
    assert backend_for(torch.zeros(1), kernel="layers") == "torch"
    (line,) = [s for s in capsys.readouterr().err.splitlines() if s.startswith("note")]
    assert "failed on layers.cpp" in line and "error: " in line


def test_chosen_backends_are_not_commented_on(build_again, monkeypatch, capsys):
    build_again()
    monkeypatch.setenv("CXX", "false")
    with use_backend("torch"):
        assert backend_for(torch.zeros(1)) == "torch"
    assert not capsys.readouterr().err


def test_a_gpu_without_cupy_is_noted(monkeypatch, capsys):
    monkeypatch.setattr(backend.cuda, "is_available", lambda index: False)
    for _ in range(2):
        assert backend._available("cuda", "mixture_logistic") == "torch"
    assert capsys.readouterr().err.count("pip install 'flowpp[gpu]'") == 1


def test_one_process_of_several_prints(monkeypatch, capsys):
    monkeypatch.setenv("RANK", "1")
    notes.note_once("topic", "a line")
    assert not capsys.readouterr().err
