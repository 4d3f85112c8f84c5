"""The audit catches each published formula by its flaw, and reports nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from conformance.adapter import NotSupported, ReferenceAdapter
from conformance.adapters.flowpp import FlowppAdapter
from conformance.audit import verdicts
from conformance.audit.budget import QUICK
from conformance.audit.measures.measure import Grids, measure
from conformance.audit.subjects.specimens import (
    SPECIMENS,
    ClampedLogit,
    LogitOfExp,
    Specimen,
    clamped_at,
)
from conformance.audit.subjects.subject import Subject
from reference.bijectors import Flip, MixtureLogistic


@pytest.fixture(scope="module")
def grids():
    return Grids(QUICK, seed=1)


def bad(found):
    return {v.finding for v in verdicts.of_subject(found) if v.status == "bad"}


@pytest.mark.parametrize("kind", SPECIMENS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_specimen_is_caught(kind, dtype, grids):
    found = bad(measure(Subject(kind.__name__, kind, dtype, "specimen"), grids))
    assert set(kind.caught_by) <= found
    if len(kind.caught_by) < 3:  # one flaw only
        assert found == set(kind.caught_by)


@pytest.mark.parametrize(
    ("name", "kind", "dtype"),
    [
        ("flowpp", FlowppAdapter, "float32"),
        ("flowpp", FlowppAdapter, "float64"),
        ("reference", ReferenceAdapter, "float64"),
    ],
)
def test_flowpp_and_the_reference_pass(name, kind, dtype, grids):
    found = measure(Subject(name, kind, dtype, "judged"), grids)
    assert bad(found) == set()
    assert found.numbers["dead_from_x"] == {"left": None, "right": None}


def test_the_position_of_the_flaw_is_found(grids):
    clamped = measure(Subject("ClampedLogit", ClampedLogit, "float64", "specimen"), grids)
    dead = clamped.numbers["dead_from_x"]
    # logit F is -11.5 near x = -9.2 and 11.5 near x = 10 for that mixture.
    assert 9 < dead["left"] < 10
    assert 9.5 < dead["right"] < 10.5
    infinite = measure(Subject("LogitOfExp", LogitOfExp, "float32", "specimen"), grids)
    right = infinite.numbers["first_wrong_x"]["y"]["right"]
    assert right["six bits"] < right["one percent"] < 16


def test_a_missed_specimen_makes_the_audit_bad(grids):
    class Correct(Specimen):
        pass

    # A correct formula under the name of a flawed one.
    found = measure(Subject("LogitOfExp", Correct, "float32", "specimen"), grids)
    (verdict,) = verdicts.of_audit([found])
    assert verdict.status == "bad"
    assert verdict.text.startswith("not caught: ")


def tame(seed):
    """Return a mixture and points near its median, where every formula is correct."""
    rng = np.random.default_rng(seed)
    spec = MixtureLogistic(*(0.3 * rng.standard_normal((1, 1, 1, 1, 3)) for _ in range(3)))
    return spec, rng.uniform(-1, 1, (2, 1, 2, 2)), rng


@pytest.mark.parametrize("kind", [*SPECIMENS, clamped_at(1e-2)], ids=lambda kind: kind.__name__)
def test_specimens_agree_with_the_reference_near_the_median(kind):
    spec, x, _ = tame(0)
    built = kind("float64").build(spec)
    y, log_det = built.forward(x)
    expected_y, expected_log_det = spec.forward(x)
    np.testing.assert_allclose(y, expected_y, rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(log_det, expected_log_det, rtol=1e-12)
    back, inverse_log_det = built.inverse(y)
    np.testing.assert_allclose(back, x, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(inverse_log_det, -expected_log_det, rtol=1e-11)


@pytest.mark.parametrize("kind", SPECIMENS, ids=lambda kind: kind.__name__)
def test_gradients_of_specimens_are_those_of_flowpp_near_the_median(kind):
    spec, x, rng = tame(2)
    grad_y, grad_log_det = rng.standard_normal(x.shape), rng.standard_normal(len(x))
    got = kind("float64").build(spec).vjp(x, None, grad_y, grad_log_det)
    expected = FlowppAdapter("float64").build(spec).vjp(x, None, grad_y, grad_log_det)
    assert got.keys() == expected.keys()
    for name in got:
        np.testing.assert_allclose(got[name], expected[name], rtol=1e-11, atol=1e-13, err_msg=name)


def test_a_specimen_builds_only_mixtures():
    with pytest.raises(NotSupported, match="only MixtureLogistic, got Flip"):
        ClampedLogit("float32").build(Flip())
