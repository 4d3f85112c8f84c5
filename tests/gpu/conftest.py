"""Float32 is IEEE arithmetic in these tests, as in training."""

from __future__ import annotations

import os

import pytest

from flowpp.runtime.precision import float32_precision

# Deterministic runs need it, and cuBLAS reads it when it is first used.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


@pytest.fixture(autouse=True)
def ieee():
    with float32_precision("ieee"):
        yield
