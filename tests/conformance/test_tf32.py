"""With products rounded to TF32 the laws fail for torch's default, and hold for float32.

`TF32Rounding` rounds on the CPU where torch's switches allow it on CUDA devices.
"""

from __future__ import annotations

import contextlib

import pytest
import torch

from conformance.adapters import flowpp as flowpp_adapter
from conformance.adapters.flowpp import FlowppAdapter
from conformance.judging.judge import Judge
from conformance.judging.plan import plan
from flowpp.bijectors import invertible_conv_lu
from flowpp.kernels import pointwise
from flowpp.kernels.backend import use_backend
from tf32_rounding import TF32Rounding, round_to_tf32

LAWS = {"forward", "log_det", "inverse", "round_trip_x", "gradients", "value"}
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


def failing(adapter, case, laws=LAWS):
    judge = Judge(adapter)
    cells = [cell for cell in plan([case], dtypes=["float32"]) if cell[1].name in laws]
    judged = [judge.judge(*cell) for cell in cells]
    assert judged
    return {r.law: r.message for r in judged if r.status in ("fails", "imprecise")}


@pytest.mark.parametrize("case", ROUNDED)
def test_laws_fail_with_torchs_default(case, rounding, monkeypatch):
    monkeypatch.setattr(
        flowpp_adapter, "float32_precision", lambda meaning: contextlib.nullcontext()
    )
    assert torch.backends.cudnn.conv.fp32_precision == "tf32"
    assert failing(FlowppAdapter, case, {"forward", "value"})
    assert rounding.rounded


@pytest.mark.parametrize("case", ROUNDED)
def test_laws_hold_in_float32(case, rounding, as_on_cuda):
    assert failing(FlowppAdapter, case) == {}
    assert not rounding.rounded


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_1x1_convolutions_are_exact_under_tf32(case, rounding, as_on_cuda):
    assert failing(TF32Adapter, case) == {}
    assert not rounding.rounded


def test_rounding_is_to_nearest_even():
    one_step = 2.0**-10
    x = torch.tensor([1 + one_step / 2, 1 + 1.5 * one_step, 1 + 0.51 * one_step, -3.0, 0.0])
    expected = torch.tensor([1.0, 1 + 2 * one_step, 1 + one_step, -3.0, 0.0])
    assert torch.equal(round_to_tf32(x), expected)
    special = torch.tensor([torch.inf, -torch.inf, torch.nan])
    assert torch.equal(round_to_tf32(special)[:2], special[:2])
    assert round_to_tf32(special)[2].isnan()


@pytest.mark.parametrize(("meaning", "rounds"), [("ieee", False), ("tf32", True)])
def test_rounding_follows_the_switches(meaning, rounds):
    x, weight = torch.full((1, 1, 1, 1), 1 + 2.0**-12), torch.ones(1, 1, 1, 1)
    with TF32Rounding(), flowpp_adapter.float32_precision(meaning):
        product, convolved = x[0, 0] @ weight[0, 0], torch.conv2d(x, weight)
    assert (product.item() == 1) == rounds
    assert (convolved.item() == 1) == rounds
