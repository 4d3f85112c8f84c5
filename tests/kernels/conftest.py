"""Shared by the tests of the kernels."""

from __future__ import annotations

import pytest

from flowpp.kernels.backend import use_backend
from flowpp.kernels.cpu import mixture_logistic as host

CPP = pytest.param(
    "cpp", marks=pytest.mark.skipif(not host.is_available(), reason="no C++ compiler here")
)


@pytest.fixture(params=["torch", CPP])
def backend(request):
    """The test runs once with each backend of the CPU; its name."""
    with use_backend(request.param):
        yield request.param
