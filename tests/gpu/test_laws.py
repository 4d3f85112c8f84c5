"""The laws of the conformance suite on a CUDA device, in both dtypes."""

from __future__ import annotations

import functools

import pytest
import torch

from conformance.adapter import DTYPES
from conformance.adapters.flowpp import FlowppAdapter
from conformance.judging.judge import Judge
from conformance.judging.plan import plan
from conformance.reports.result import FAILING

pytestmark = pytest.mark.gpu

FAST = [
    "mixture_logistic/*",
    "coupling/*",
    "invertible_conv*/*",
    "conv2d/*",
    "gated_*/*",
    "layer_norm",
    "variational_dequantizer/*",
    "flow/main",
]
"""Cases with kernels of their own, and a whole flow."""


class OnCuda(FlowppAdapter):
    """flowpp on CUDA, with float32 as a user gets it."""

    def __init__(self, dtype="float64", device="cuda"):
        super().__init__(dtype, device)


@functools.cache
def judge():
    return Judge(OnCuda)


@pytest.fixture(autouse=True)
def one_thread():
    """Use one thread: for thousands of small calls, more are slower."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def failures(patterns, dtype):
    results = [judge().judge(*cell) for cell in plan(patterns, ["*"], [dtype])]
    assert any(result.status == "holds" for result in results)
    return {f"{r.case} {r.law}": r.message for r in results if r.status in FAILING}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pattern", FAST)
def test_laws_hold(pattern, dtype):
    assert failures([pattern], dtype) == {}


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
def test_all_laws_hold(dtype):
    assert failures(["*"], dtype) == {}
