"""Inverses and samples of the released code: what is compared, and what cannot be."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from conformance.released import __main__ as command
from conformance.released.cdf import compare_cdf
from conformance.released.comparison import build, flowpp_implementation
from conformance.released.differences import Row, compare, difference
from conformance.released.implementation import inverse_quantities
from conformance.released.table import show
from conformance.released.topology import infer_topology
from conformance.released.vectors import Vectors, complete_variables

GOLDEN = Path(__file__).resolve().parents[1] / "data" / "golden"
CASE = GOLDEN / "case1_cifar_8x8.npz"
NAMES = ("inverse", "inverse_logd", "sample_x", "sample_inverse_logd")
PRECISIONS = pytest.mark.parametrize("precision", ["f32", "f64"])


@pytest.fixture(scope="module")
def inverted():
    """Inverses by flowpp in both precisions, with the file's records, as recorded and far out."""
    vectors = Vectors(CASE)
    variables = complete_variables(vectors, [])
    topology = infer_topology(vectors.meta, variables, vectors.images.shape[1:], vectors.levels)
    found = {}
    for precision in ("f32", "f64"):
        tested = flowpp_implementation(build(topology, variables), precision)
        recorded = vectors.recorded(precision)
        recorded = {name: recorded[name] for name in (*NAMES, "z")}
        for scale in (1.0, 10.0):
            z = scale * vectors.arrays["sample_z"]
            results, slack = inverse_quantities(tested, recorded, z, topology)
            found[precision, scale] = (results, slack)
        found[precision] = {name: recorded[name] for name in NAMES}
    return found


def rows_of(inverted, precision, scale=1.0, **recorded):
    found, slack = inverted[precision, scale]
    wanted = inverted[precision] | recorded
    names = {"implementation": "flowpp", "precision": precision}
    return {row.quantity: row for row in compare(found, wanted, slack=slack, **names)}


@PRECISIONS
def test_recorded_inverses_hold_and_their_errors_are_shown(inverted, precision):
    rows = rows_of(inverted, precision)
    assert all(row.holds for row in rows.values())
    assert {"inverse, median", "sample_x, median"} < set(rows)
    assert all(row.error > 0.0 for name, row in rows.items() if "logd" not in name)


@PRECISIONS
@pytest.mark.parametrize("name", ["inverse", "sample_x"])
@pytest.mark.parametrize("sign", [1, -1])
def test_an_error_of_a_thousandth_differs(inverted, precision, name, sign):
    wrong = inverted[precision][name] + np.asarray(sign * 1e-3, inverted[precision][name].dtype)
    differing = {
        q for q, row in rows_of(inverted, precision, **{name: wrong}).items() if row.differs
    }
    assert f"{name}, median" in differing
    assert (name in differing) == (precision == "f64")


@pytest.mark.parametrize("name", ["inverse_logd", "sample_inverse_logd"])
def test_a_log_determinant_off_by_a_thousandth_differs_in_float64(inverted, name):
    rows = rows_of(inverted, "f64", **{name: inverted["f64"][name] + 1e-3})
    assert [quantity for quantity, row in rows.items() if row.differs] == [name]


@PRECISIONS
def test_one_wrong_number_of_a_good_example_differs(inverted, precision):
    wrong = inverted[precision]["inverse"].copy()
    wrong[2, 3, 4, 1] += 0.1
    rows = rows_of(inverted, precision, inverse=wrong)
    assert rows["inverse"].differs and rows["inverse, median"].holds


@PRECISIONS
def test_samples_of_a_saturated_cdf_are_not_comparable(inverted, precision):
    rows = rows_of(inverted, precision, scale=10.0)
    for name in ("sample_x", "sample_inverse_logd"):
        assert not rows[name].comparable and not rows[name].differs and not rows[name].holds
        assert rows[name].note.startswith("0 of 4 examples comparable")
    assert rows["inverse"].holds


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_implementation_without_finite_results_differs(value):
    """Also where the effect of roundings cannot be known, because its results are not finite."""
    names = {"implementation": "flowpp", "precision": "f64"}
    shape = (2, 4, 4, 3)
    bad, good = np.full(shape, value), np.zeros(shape)
    slack = {"inverse": np.full(shape, np.nan)}
    found = compare({"inverse": bad}, {"inverse": good}, slack=slack, **names)
    assert [row.differs for row in found if row.quantity == "inverse"] == [True]


def test_numbers_that_are_not_finite_in_the_file_are_not_compared():
    names = {"implementation": "flowpp", "precision": "f32"}
    z, bpd = np.array([1.0, np.nan, 3.0]), np.array(np.inf)
    some, none = compare({"z": np.ones(3), "bpd": np.array(2.0)}, {"z": z, "bpd": bpd}, **names)
    assert some.differs and some.error == 2.0 and some.note == "2 of 3 numbers finite in the file"
    assert not none.comparable and not none.differs
    assert np.isnan(difference(np.array([np.nan]), np.array([1.0])))


@pytest.mark.parametrize(("error", "differs"), [(5e-4, False), (1.3e-3, True)])
def test_float32_log_dets_have_the_tolerance_of_their_roundings(error, differs):
    """8 eps of 1000 are 9.5e-4, also for an element whose own log-det is small."""
    names = {"implementation": "flowpp", "precision": "f32"}
    recorded = {"main_logd": np.array([-1000.0, 3.0]), "trace/02_Norm/logd": np.array([2.0])}
    found = {"main_logd": recorded["main_logd"] + error, "trace/02/logd": np.array([2.0 - error])}
    assert [row.differs for row in compare(found, recorded, **names)] == [differs] * 2


def test_a_recorded_density_that_is_nowhere_finite():
    vectors = Vectors(GOLDEN / "case5_cdf.npz")
    for name in vectors.arrays:
        if name.endswith("f64/logpdf"):
            vectors.arrays[name] = np.full_like(vectors.arrays[name], np.nan)
    rows = {row.quantity: row for row in compare_cdf(vectors)}
    assert not rows["logpdf"].comparable and rows["logcdf"].holds


GOOD = Row("z", "flowpp", "f64", 0.0, 1e-9)
NOT = dataclasses.replace(GOOD, quantity="sample_x", error=np.nan, comparable=False)
BAD = dataclasses.replace(GOOD, quantity="loss", error=1.0)


@pytest.mark.parametrize(
    ("rows", "status", "text"),
    [
        ([GOOD], 0, "everything holds\n"),
        ([GOOD, NOT], 0, "everything holds, except 1 not comparable\n"),
        ([NOT], 1, "nothing was comparable\n"),
        ([], 1, "nothing was comparable\n"),
        ([GOOD, NOT, BAD], 1, "1 quantities differ\n"),
    ],
)
def test_the_conclusion(rows, status, text, capsys):
    assert command._conclude(rows, incomplete=False) == status
    assert capsys.readouterr().out == text


def test_the_table_counts_what_is_not_comparable(capsys):
    show(Vectors(GOLDEN / "case5_cdf.npz"), None, [GOOD, NOT])
    shown = capsys.readouterr().out
    assert "n/c" in shown and "1 comparisons hold; 1 not comparable (n/c)" in shown


def test_a_file_without_its_variables_is_incomplete(tmp_path, capsys, monkeypatch):
    alone = tmp_path / "init.npz"
    with np.load(CASE) as file:
        content = {name: file[name] for name in file.files if name != "w/Norm_4/norm0/g"}
    np.savez(alone, **content)
    monkeypatch.setattr(command, "compare_cdf", lambda file: [GOOD])
    assert command.main([str(alone), str(GOLDEN / "case5_cdf.npz")]) == 2
    shown = capsys.readouterr()
    assert "init.npz is incomplete: it lacks" in shown.err
    assert "python -m conformance.released init.npz MAIN.npz" in shown.err
    assert "case5_cdf.npz" in shown.out  # the other file is compared nevertheless
