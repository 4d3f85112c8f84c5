"""The conformance suite fails on each seeded bug, and passes without it."""

from __future__ import annotations

import functools

import pytest

from conformance.adapter import DTYPES
from conformance.adapters.flowpp import FlowppAdapter
from conformance.judging.judge import Judge
from conformance.judging.plan import plan
from conformance.laws import LAWS
from conformance.reports.result import FAILING, Result

from .catalogue import BUGS, Bug
from .kills import detecting_laws

EACH = [(bug, dtype) for bug in BUGS.values() for dtype in DTYPES if dtype not in bug.without]
ALONE = [(bug, dtype) for bug, dtype in EACH if bug.alone]
NEVER_ALONE = {
    "coding": "a density whose code has another length is not the map's, as jacobian sees",
    "reference_jacobian": "it judges the reference, so a bug in flowpp cannot break it",
}
"""Laws that no bug can break alone, with reasons: for instance, another law implies them."""


def names(pairs: list[tuple[Bug, str]]) -> list[str]:
    return [f"{bug.name}-{dtype}" for bug, dtype in pairs]


def test_the_catalogue_is_large():
    assert len(BUGS) >= 90
    assert len([bug for bug in BUGS.values() if not bug.without]) >= 85
    assert all(reason for bug in BUGS.values() for reason in bug.without.values())


@pytest.mark.parametrize(("bug", "dtype"), EACH, ids=names(EACH))
def test_bug_is_detected(bug, dtype, monkeypatch):
    bug.patch(monkeypatch)
    judge, judged = Judge(FlowppAdapter), []
    for one in plan(bug.cases, bug.laws, [dtype]):
        judged.append(judge.judge(*one))
        # By a wrong result, not because the patch itself raises.
        if judged[-1].status in FAILING and "Error: " not in judged[-1].message:
            return  # one cell is proof; the diagnosis of every other takes as long again
    pytest.fail(f"{bug.name} passes {judged}")


@pytest.mark.parametrize("bug", BUGS.values(), ids=BUGS)
def test_clean_code_passes_the_same_laws(bug):
    failing = [cell for cell in clean_cells(bug.cases, bug.laws) if cell.status in FAILING]
    assert not failing


def test_every_law_detects_a_bug_that_no_other_law_detects():
    alone = {bug.alone for bug in BUGS.values() if bug.alone}
    missing = sorted(set(LAWS) - alone - set(NEVER_ALONE))
    assert not missing, (
        f"no seeded bug is detected by {', '.join(missing)} alone. For each, add to a file "
        "tests/seeded_bugs/in_*.py a patch of flowpp under "
        f'@bug("CASES", "{missing[0]}", alone="{missing[0]}"); CASES are ones on which every '
        "other law passes. If there can be no such bug, because another law implies this one, "
        f"give the reason in NEVER_ALONE in {__file__}."
    )
    surplus = sorted(alone & set(NEVER_ALONE))
    assert not surplus, f"remove from NEVER_ALONE: {surplus}, for which there is a seeded bug"
    unknown = sorted((alone | set(NEVER_ALONE)) - set(LAWS))
    assert not unknown, f"`alone` and NEVER_ALONE must name laws, got {unknown}"


@pytest.mark.parametrize(("bug", "dtype"), ALONE, ids=names(ALONE))
def test_no_other_law_detects_it(bug, dtype):
    """Run all laws on the bug's cases."""
    assert detecting_laws(bug, dtype) == {bug.alone}


@pytest.mark.slow
@pytest.mark.parametrize(("bug", "dtype"), EACH, ids=names(EACH))
def test_bug_is_detected_among_all_laws(bug, dtype):
    assert detecting_laws(bug, dtype) & set(bug.laws)


@functools.cache
def clean_cells(cases: tuple[str, ...], laws: tuple[str, ...]) -> list[Result]:
    judge = Judge(FlowppAdapter)
    return [judge.judge(*one) for one in plan(cases, laws)]
