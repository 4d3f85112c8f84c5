"""Float32 is IEEE arithmetic in these tests, as in training."""

from __future__ import annotations

import pytest

from flowpp.runtime.precision import float32_precision


@pytest.fixture(autouse=True)
def ieee():
    with float32_precision("ieee"):
        yield
