"""The law `discrete_normalization`: probabilities of all images sum to at most 1."""

from __future__ import annotations

import math

import pytest

from conformance.adapter import ReferenceAdapter
from conformance.cases import CASES
from conformance.judging.judge import Judge
from conformance.laws import LAWS
from conformance.reports.result import FAILING
from reference.bijectors import DataLogit

NAMES = [name for name in CASES if "/alphabet_" in name]


def judge(name):
    law = LAWS["discrete_normalization"]
    return Judge(ReferenceAdapter).judge(CASES[name], law, "float64")


# Half of the density of `alphabet_variational` lies outside of the images' range.
@pytest.mark.parametrize("name", [name for name in NAMES if "variational" not in name])
def test_a_density_that_is_too_large_in_both_trees_is_detected(name, monkeypatch):
    """A constant missing from the density makes each probability 11 % too large for each pixel."""
    forward = DataLogit.forward

    def without_span(self, x, context=None):
        y, log_det = forward(self, x, context)
        return y, log_det - x[0].size * math.log(1.0 - 2.0 * self.margin)

    monkeypatch.setattr(DataLogit, "forward", without_span)
    result = judge(name)
    assert result.status in FAILING, result.message
    assert "sum of the probabilities" in result.message


@pytest.mark.parametrize("name", NAMES)
def test_the_reference_is_a_distribution(name):
    result = judge(name)
    assert result.status == "holds", result.message
