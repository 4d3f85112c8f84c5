"""Every case under every law that speaks of it, at both dtypes.

`CONFORMANCE_ADAPTER=module:Class` judges another implementation, `CONFORMANCE_SEED` another draw
of specs and inputs, `CONFORMANCE_DEVICE` tells the adapter where to compute. At the end of the run
the matrix of errors is printed (`conftest.py`).
"""

from __future__ import annotations

import os
from dataclasses import asdict

import pytest

from .adapter import load
from .report import failure
from .runner import Judge, plan

ADAPTER = load(
    os.environ.get("CONFORMANCE_ADAPTER", "conformance.flowpp_adapter:FlowppAdapter")
)
SEED = int(os.environ.get("CONFORMANCE_SEED", "0"))
DEVICE = os.environ.get("CONFORMANCE_DEVICE", "cpu")
PLAN = list(plan())


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge(ADAPTER, seed=SEED, device=DEVICE)


@pytest.mark.parametrize(
    ("case", "law", "dtype"), PLAN, ids=[f"{c.name}-{law.name}-{d}" for c, law, d in PLAN]
)
def test_law(judge: Judge, case, law, dtype, record_property) -> None:
    cell = judge.cell(case, law, dtype)
    record_property("conformance_cell", asdict(cell))
    if cell.status == "left out":
        pytest.skip(cell.message)
    assert cell.status == "holds", failure(cell)
