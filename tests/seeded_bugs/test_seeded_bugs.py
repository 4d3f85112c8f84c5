"""The suite is itself tested: it has to fail on each of these bugs, and pass without them."""

from __future__ import annotations

import functools

import pytest

from conformance.flowpp_adapter import FlowppAdapter
from conformance.runner import Cell, Judge, plan

from . import in_bijectors, in_mixtures, in_models, in_networks  # noqa: F401  (each enters its bugs)
from .catalogue import BUGS, Bug


def cells(bug: Bug) -> list[Cell]:
    judge = Judge(FlowppAdapter)
    return [judge.cell(*one) for one in plan(bug.cases, bug.laws)]


def test_there_are_enough_of_them():
    assert len(BUGS) >= 24


@pytest.mark.parametrize("bug", BUGS.values(), ids=BUGS)
def test_bug_is_seen(bug, monkeypatch):
    bug.patch(monkeypatch)
    judged = cells(bug)
    failing = [cell for cell in judged if cell.status == "fails"]
    assert failing, f"{bug.name} passes {judged}"
    # By a wrong answer, not because the patch itself is broken.
    assert any("Error: " not in cell.message for cell in failing), failing


@pytest.mark.parametrize("bug", BUGS.values(), ids=BUGS)
def test_clean_code_passes_the_same(bug):
    failing = [cell for cell in clean_cells(bug.cases, bug.laws) if cell.status == "fails"]
    assert not failing


@functools.cache
def clean_cells(cases: tuple[str, ...], laws: tuple[str, ...]) -> list[Cell]:
    judge = Judge(FlowppAdapter)
    return [judge.cell(*one) for one in plan(cases, laws)]
