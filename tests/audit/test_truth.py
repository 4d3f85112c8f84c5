"""Exact results of the audit, against independent mpmath code, differences and more digits."""

from __future__ import annotations

import numpy as np
import pytest
from mpmath import mp

import mpmath_truth
from conformance.audit import grids, truth
from conformance.audit.truth import DoubleDouble

PARAMETERS = ("logits", "means", "log_scales")


@pytest.fixture(scope="module")
def points():
    return grids.random_points(np.random.default_rng(5), 3, 20)


def test_value_and_log_derivative_agree_with_independent_mpmath_code(points):
    found = truth.truth(points)
    with mp.workdps(100):
        for i, row in enumerate(points.rows()):
            expected = mpmath_truth.mixture_logistic(*row)
            for pair, exact in zip((found.y, found.l), expected, strict=True):
                got = mp.mpf(float(pair.high[i])) + mp.mpf(float(pair.low[i]))
                assert abs(got - exact) <= 1e-28 * max(1, abs(exact))


def test_gradients_are_derivatives():
    points = grids.ordinary_targets(np.random.default_rng(6), 3, 5)
    found, x, h = truth.truth(points), points.x, 1e-5
    up, down = truth.truth(points.at(x + h)), truth.truth(points.at(x - h))
    np.testing.assert_allclose((up.y.high - down.y.high) / (2 * h), found.y_x.high, rtol=1e-7)
    np.testing.assert_allclose(
        (up.l.high - down.l.high) / (2 * h), found.l_x.high, rtol=1e-6, atol=1e-8
    )
    for name in PARAMETERS:
        for k in range(3):
            shifted = []
            for step in (h, -h):
                parameters = {p: getattr(points, p).copy() for p in PARAMETERS}
                parameters[name][:, k] += step
                shifted.append(truth.value(grids.Points(x, **parameters)).high)
            got = getattr(found, f"y_{name}").high[:, k]
            np.testing.assert_allclose(
                got, (shifted[0] - shifted[1]) / (2 * h), rtol=1e-6, atol=1e-8, err_msg=name
            )


def test_fifty_digits_are_enough(points, monkeypatch):
    sets = (points, grids.extreme_points(np.random.default_rng(7), 3, 15))
    at_fifty = [truth.truth(p) for p in sets]
    monkeypatch.setattr(truth, "DIGITS", 120)
    for fifty, p in zip(at_fifty, sets, strict=True):
        more = truth.truth(p)
        for name in ("y", "l"):
            a, b = getattr(fifty, name), getattr(more, name)
            difference = np.abs((a.high - b.high) + (a.low - b.low))
            assert (difference <= 1e-28 * np.maximum(1, np.abs(b.high))).all()


def test_errors_below_the_last_bit_of_float64_are_measured():
    with mp.workdps(50):
        pair = DoubleDouble.of([mp.mpf(1) + mp.mpf(2) ** -60, mp.mpf(1)])
    assert pair.error(np.ones(2)).tolist() == [2.0**-60, 0.0]
    assert pair.error(np.array([np.nan, np.inf])).tolist() == [np.inf, np.inf]
