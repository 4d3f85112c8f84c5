"""With products rounded to TF32, as on a GPU, the laws fail for torch's default, and hold for ours.

There is no GPU here: `TF32Rounding` rounds on the CPU where torch's switches would on CUDA devices.
"""

from __future__ import annotations

import contextlib

import pytest
import torch
from tf32_rounding import TF32Rounding, round_to_tf32

from conformance.adapters import flowpp as flowpp_adapter
from conformance.adapters.flowpp import FlowppAdapter
from conformance.judging.judge import Judge
from conformance.judging.plan import plan
from flowpp.bijectors import invertible_conv_lu
from flowpp.kernels import pointwise
from flowpp.kernels.backend import use_backend

LAWS = ["forward", "log_det", "inverse", "round_trip_x", "vjp"]
CONVOLUTIONS = [
    "invertible_conv/joint",
    "invertible_conv/halves",
    "invertible_conv_lu/joint",
    "invertible_conv_lu/halves",
]
ROUNDED = ["conv2d/wide", "coupling/mixture", "flow/main", *CONVOLUTIONS]


class TF32Adapter(FlowppAdapter):
    float32 = "tf32"


@pytest.fixture
def rounding():
    """Torch's own operations, whose products are rounded to TF32 where its switches allow it."""
    with use_backend("torch"), TF32Rounding() as mode:
        yield mode


@pytest.fixture
def as_on_cuda(monkeypatch):
    """Treat tensors on the CPU like those on CUDA devices."""
    for module in (pointwise, invertible_conv_lu):
        monkeypatch.setattr(module, "is_rounded", lambda x: True)


def failing(adapter, case):
    judge = Judge(adapter)
    judged = [judge.judge(*cell) for cell in plan([case], LAWS_OF(case), ["float32"])]
    assert len(judged) > 0
    return [f"{r.law}: {r.message}" for r in judged if r.status == "fails"]


@pytest.mark.parametrize("case", ROUNDED)
def test_laws_fail_with_torchs_default(case, rounding, monkeypatch):
    monkeypatch.setattr(
        flowpp_adapter, "float32_precision", lambda meaning: contextlib.nullcontext()
    )
    assert torch.backends.cudnn.conv.fp32_precision == "tf32"
    assert any(m.startswith("forward") for m in failing(FlowppAdapter, case))
    assert rounding.rounded


@pytest.mark.parametrize("case", ROUNDED)
def test_laws_hold_in_float32(case, rounding, as_on_cuda):
    assert failing(FlowppAdapter, case) == []
    assert not rounding.rounded


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_1x1_convolutions_are_exact_under_tf32(case, rounding, as_on_cuda):
    assert failing(TF32Adapter, case) == []
    assert not rounding.rounded
