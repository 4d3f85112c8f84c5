"""A root one rounding away is no failure, where one rounding of x moves y and log_det far."""

from __future__ import annotations

import numpy as np
import pytest

from conformance.cases import CASES
from conformance.laws.trial import Trial
from faulty import faulty_adapter, judge_faulty

NARROW = "mixture_logistic/log_scales_-20_to_20"
"""Across its narrowest component, one rounding of x moves y by 1e-7."""
LAWS = ("inverse", "inverse_log_det", "round_trip_y", "opposite")


def moved_by(roundings):
    """Return an inverse with the root some floats further, and log_det there."""

    def inverse(spec, y, context):
        x, _ = spec.inverse(y, context)
        x = x + roundings * np.spacing(x)
        return x, -spec.forward(x, context)[1]

    return inverse


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("roundings", [1.0, -1.0])
def test_a_root_one_rounding_away_is_right(law, roundings):
    result = judge_faulty(NARROW, law, inverse=moved_by(roundings))
    assert result.status == "holds" and result.compared, result.message


@pytest.mark.parametrize("law", ["inverse", "inverse_log_det", "round_trip_y"])
def test_a_root_a_hundred_roundings_away_is_wrong(law):
    result = judge_faulty(NARROW, law, inverse=moved_by(100.0))
    assert result.status in ("fails", "imprecise"), result.message


@pytest.mark.parametrize("law", ["inverse_log_det", "opposite"])
def test_a_small_error_of_the_log_det_is_found(law):
    def inverse(spec, y, context):
        x, log_det = spec.inverse(y, context)
        return x, log_det + 1e-5

    assert judge_faulty(NARROW, law, inverse=inverse).status == "fails"


def test_the_unit_is_that_of_rounding_where_the_map_is_smooth():
    case = CASES["mixture_logistic/one_component"]
    trial = Trial(case, faulty_adapter(), "float64", "typical", 0)
    for unit in (trial.unit_of_round_trip_y, trial.unit_of_inverse_log_det):
        assert (unit < 100 * trial.eps).all()
