"""Each subtle fault is detected by the cell that it names, which holds without the fault."""

from __future__ import annotations

from collections import Counter

import pytest
from subtle_faults import FAULTS, adapter_of, without_fault

from conformance.cases import CASES
from conformance.judging.judge import Judge
from conformance.laws import LAWS


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_subtle_fault_is_detected(fault):
    case, law = CASES[fault.case], LAWS[fault.law]
    result = Judge(adapter_of(fault)).judge(case, law, fault.dtype)
    assert result.status == "fails", (result.status, result.message)
    if fault.hint:
        assert fault.hint in result.hint, result.hint
    else:  # no cause is stated as certain
        assert not result.hint or "possibly" in result.hint, result.hint


@pytest.mark.parametrize(
    ("case", "law", "dtype"), sorted({(f.case, f.law, f.dtype) for f in FAULTS.values()})
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_the_same_cell_holds_without_the_fault(case, law, dtype):
    result = Judge(without_fault()).judge(CASES[case], LAWS[law], dtype)
    assert result.status == "holds", result.message


def test_most_faults_are_named():
    named = sum(fault.hint != "" for fault in FAULTS.values())
    assert named >= 0.8 * len(FAULTS), f"{named} of {len(FAULTS)}"


def test_there_are_faults_of_every_kind():
    kinds = Counter(fault.kind for fault in FAULTS.values())
    assert len(kinds) >= 17 and min(kinds.values()) >= 2
