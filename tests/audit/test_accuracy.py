"""Measurements of the audit: errors by region, dead zones, targets met."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from conformance.audit import grids
from conformance.audit.measures import accuracy, inversion
from conformance.audit.measures.accuracy import errors, first_wrong, wrong_bits
from conformance.audit.measures.clamp import SIZES, sweep
from conformance.audit.measures.inversion import Solution, score
from conformance.audit.subjects.subject import Outputs
from conformance.audit.truth import truth
from conformance.audit.verdicts import number

FLOAT64 = SimpleNamespace(dtype="float64")


@pytest.fixture(scope="module")
def case():
    points = grids.ordinary_targets(np.random.default_rng(0), 3, 40)
    return points, truth(points)


def test_an_error_of_ten_units_is_ten_units(case):
    _, true = case
    unit = np.finfo(float).eps * np.maximum(1, np.abs(true.y.high))
    found = errors(FLOAT64, Outputs(true.y.high + 10 * unit, true.l.high), true)
    np.testing.assert_allclose(found.by["y"], 10, atol=1)
    assert found.by["l"].max() <= 0.5
    assert found.by["y_x"] is None
    assert (found.excess["y"] <= found.by["y"]).all()
    assert wrong_bits(1023.0) == 10


def test_non_finite_results_are_counted(case):
    _, true = case
    y = true.y.high.copy()
    y[:4] = np.nan
    summary = accuracy.summary(errors(FLOAT64, Outputs(y, true.l.high), true))
    assert summary["y"]["all"]["non_finite_percent"] == 10
    assert summary["y"]["all"]["max"] == np.inf
    assert summary["y"]["all"]["max_finite"] < 1
    assert summary["y"]["|y| > 700"] is None
    assert summary["y_x"] is None


def test_the_first_wrong_x_is_found_on_the_right_side():
    points = grids.repeat(np.array([-4.0, -2.0, 2.0, 4.0]), np.zeros(4))
    true = truth(points)
    y = true.y.high.copy()
    y[3] *= 1.5
    found = first_wrong(points, errors(FLOAT64, Outputs(y, true.l.high), true), "float64")
    assert found["y"] == {
        "left": {"six bits": None, "one percent": None},
        "right": {"six bits": 4.0, "one percent": 4.0},
    }
    assert found["y_x"] is None


def test_weaker_clamps_have_dead_zones_farther_out_up_to_the_limit_of_the_dtype():
    found = sweep(61)
    for dtype, last in (("float32", 17.0), ("float64", 38.0)):
        dead = [row["dead_from"] for row in found[dtype]]
        left = [d["left"] for d in dead]
        assert len(left) == len(SIZES)
        assert left == sorted(left)
        assert left[-1] > 45
        assert max(d["right"] for d in dead) < last
    weakest = found["float32"][-1]["at"]
    assert weakest["-20"]["y"] < 1e-5 < 1 < weakest["20"]["y"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_correct_method_meets_all_targets_and_guessed_brackets_miss_some(dtype):
    targets = grids.hard_targets(np.random.default_rng(3), 4, 60).rounded(dtype)
    right = inversion.run(inversion.chandrupatla, targets, dtype)
    assert right["missed_percent"] == 0
    assert right["evaluations"]["max"] < 60
    assert sum(right["evaluations"]["histogram"].values()) == 60
    for name, method in inversion.METHODS.items():
        if "of F" in name:
            assert inversion.run(method, targets, dtype)["missed_percent"] > 40, name


def test_a_slightly_wrong_root_counts_as_missed():
    targets = grids.ordinary_targets(np.random.default_rng(3), 4, 20)
    x = inversion.chandrupatla(targets, "float64").x
    assert score(targets, Solution(x), "float64")["missed_percent"] == 0
    assert score(targets, Solution(x + 1e-13), "float64")["missed_percent"] > 80
    x[0] = np.nan
    assert score(targets, Solution(x), "float64")["missed_percent"] == 5


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (np.nan, "-"), (np.inf, "inf"), (0.0, "0"), (3.14, "3.1"), (12345.0, "1.2e+04")],
)
def test_numbers_in_sentences(value, text):
    assert number(value) == text
