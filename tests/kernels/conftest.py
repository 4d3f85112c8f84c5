"""Fixtures for the tests of the kernels."""

from __future__ import annotations

import pytest

from flowpp.kernels.backend import use_backend
from flowpp.kernels.cpu import build

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
