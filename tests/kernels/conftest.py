"""Fixtures for the tests of the kernels."""

from __future__ import annotations

import pytest

import tiny_library
from flowpp.kernels import cache
from flowpp.kernels.backend import use_backend
from flowpp.kernels.cpu import build, compilation
from flowpp.runtime import notes

CPU = pytest.param(
    "cpu",
    marks=pytest.mark.skipif(
        not build.is_available("mixture_logistic.cpp"), reason="no C++ compiler here"
    ),
)


@pytest.fixture(params=["torch", CPU])
def backend(request):
    """Run the test with each backend for CPU tensors; the backend's name."""
    with use_backend(request.param):
        yield request.param


@pytest.fixture
def build_again(monkeypatch, tmp_path):
    """Function that sets flags of the compiler; kernels used next are built with them."""

    def start(*flags):
        monkeypatch.setenv("FLOWPP_CACHE", str(tmp_path))
        monkeypatch.setattr(build, "FLAGS", (*build.FLAGS, *flags))
        build.forget()

    yield start
    monkeypatch.undo()
    build.forget()


@pytest.fixture
def empty_cache(monkeypatch, tmp_path):
    """Use an empty cache, and forget what this process has built and said."""
    monkeypatch.setattr(notes, "_noted", set())
    for name in ("CXX", cache.REBUILD):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FLOWPP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(compilation.tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    build.forget()
    yield
    monkeypatch.undo()
    build.forget()


@pytest.fixture
def source(tmp_path):
    """Source file of a library that compiles in a moment."""
    (tmp_path / "number.h").write_text(tiny_library.HEADER)
    (tmp_path / "tiny.cpp").write_text(tiny_library.SOURCE)
    return tmp_path / "tiny.cpp"


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Function that makes `CXX` a script; its `count()` is the number of compilations."""

    def start(script):
        path = tmp_path / "bin" / "cxx"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'#!/bin/sh\necho "$*" >> {tmp_path}/runs\n{script}\n')
        path.chmod(0o755)
        monkeypatch.setenv("CXX", str(path))
        return path

    def count():
        log = tmp_path / "runs"
        return len(log.read_text().splitlines()) if log.exists() else 0

    start.count = count
    return start
