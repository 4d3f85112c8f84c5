"""A wrong log-determinant shows in the length of a code: the law `coding` alone detects it."""

from __future__ import annotations

import pytest

from conformance.adapters.flowpp import FlowppAdapter
from conformance.judging.judge import Judge
from conformance.judging.plan import plan
from conformance.reports.result import FAILING

from . import kills  # noqa: F401  (it registers the bugs)
from .catalogue import BUGS

WRONG_LOG_DETS = {
    "wrong_sign_of_log_det": "affine/line",
    "lost_log_det_of_the_affine_map": "chain/pixel",
    "lost_constant_of_the_data_logit": "chain/pixel",
    "log_det_of_the_batch_for_each_example": "affine/line",
    "shared_gain_counted_once": "chain/positions",
    "forgotten_positions_in_the_1x1_convolution": "chain/positions",
    "forgotten_positions_in_the_lu_convolution": "chain/positions",
    "wrong_sign_of_the_inverse_log_det": "mixture_logistic/line",
}


def statuses(case: str) -> set[str]:
    judge = Judge(FlowppAdapter)
    return {judge.judge(*one).status for one in plan([case], ["coding"], ["float64"])}


@pytest.mark.parametrize("name", WRONG_LOG_DETS)
def test_a_wrong_log_det_has_another_length(name, monkeypatch):
    BUGS[name].patch(monkeypatch)
    assert statuses(WRONG_LOG_DETS[name]) & set(FAILING)


@pytest.mark.parametrize("case", sorted(set(WRONG_LOG_DETS.values())))
def test_right_log_dets_have_their_length(case):
    assert not statuses(case) & set(FAILING)
