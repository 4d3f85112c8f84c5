"""Layers whose terms cancel are judged by the rounding of the terms, and wrong formulas fail."""

from __future__ import annotations

import pytest

from conformance.adapters.flowpp import FlowppAdapter
from conformance.cases import CASES
from conformance.judging.judge import Judge
from conformance.laws import LAWS

CANCELLING = {"conv2d_one_by_one/constant": 4, "conv2d_initial_mean/constant": 5}
"""Cases, and a seed at which a sum of terms is much smaller than the terms."""


def judged(case, dtype):
    return Judge(FlowppAdapter, seed=CANCELLING[case]).judge(CASES[case], LAWS["value"], dtype)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("case", CANCELLING)
def test_cancelling_terms_are_not_blamed_on_the_layer(case, dtype):
    result = judged(case, dtype)
    assert result.status == "holds" and not result.not_compared


@pytest.mark.parametrize("case", CANCELLING)
@pytest.mark.parametrize("offset", [1e-8 + 1e-13, 1e-8 - 1e-13])
def test_a_variance_offset_that_is_wrong_in_the_fifth_digit_fails(case, offset, monkeypatch):
    monkeypatch.setattr("flowpp.conditioner.conv2d.VARIANCE_OFFSET", offset)
    assert judged(case, "float64").status == "fails"
