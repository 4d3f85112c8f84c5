from __future__ import annotations

import numpy as np
import pytest

from conformance.numerics.compare import Comparison, compare, ulps

EPS32 = float(np.finfo(np.float32).eps)
EPS64 = float(np.finfo(np.float64).eps)


@pytest.mark.parametrize(
    ("got", "want", "dtype", "expected"),
    [
        (1.0 + EPS64, 1.0, "float64", 1.0),
        (1.0 + EPS32, 1.0, "float32", 1.0),
        (0.5 + EPS64, 0.5, "float64", 1.0),  # below 1 the unit is absolute
        (1000.0 * (1 - 3 * EPS32), 1000.0, "float32", 3.0),
        (0.0, -0.0, "float64", 0.0),
        (np.inf, np.inf, "float64", 0.0),
        (np.inf, -np.inf, "float64", np.inf),
        (1e300, np.inf, "float64", np.inf),
        (np.nan, np.nan, "float64", np.inf),
        (np.nan, 1.0, "float64", np.inf),
        (1.0, np.nan, "float64", np.inf),
    ],
)
def test_ulps_of_known_values(got, want, dtype, expected):
    assert ulps(np.array([got]), np.array([want]), dtype) == pytest.approx(expected, rel=1e-6)


def test_the_worst_point_is_named():
    want = np.ones((2, 3))
    got = want.copy()
    got[1, 2] += 8 * EPS64
    got[0, 0] += 2 * EPS64
    found = compare(got, want, "float64")
    assert (found.index, found.ulps, found.want) == ((1, 2), 8.0, 1.0)
    assert "[1, 2]" in str(found) and "8 ulps" in str(found)


def test_nan_is_the_worst_point():
    found = compare(np.array([5.0, np.nan]), np.array([1.0, np.nan]), "float64")
    assert found.index == (1,) and found.ulps == np.inf


def test_a_comparison_without_an_error():
    found = Comparison.exact(7)
    assert (found.ulps, found.count, found.unresolved) == (0.0, 7, 0)


def test_a_given_unit_is_used():
    found = compare(np.array([1.0625]), np.array([1.0]), "float64", unit=np.array([2.0**-5]))
    assert found.ulps == 2.0


def test_nan_units_do_not_pass():
    assert compare(np.ones(1) * 2, np.ones(1), "float64", unit=np.array([np.nan])).ulps == np.inf


def test_shapes_are_not_broadcast():
    with pytest.raises(ValueError, match=r"\(3,\).*\(1,\)"):
        compare(np.ones(1), np.ones(3), "float64")


def test_empty_arrays_have_no_error():
    assert compare(np.ones(0), np.ones(0), "float64").ulps == 0.0


def test_a_value_as_small_as_its_unit_is_not_compared():
    want = np.array([1.0, 100.0])
    comparison = compare(want + 1.0, want, "float64", unit=np.array([0.1, 1.0]))
    assert (comparison.count, comparison.unresolved, comparison.ulps) == (1, 1, 1.0)
    nothing = compare(want, want, "float64", unit=np.full(2, np.inf))
    assert (nothing.count, nothing.unresolved) == (0, 2)


def test_nan_is_wrong_whatever_its_unit():
    comparison = compare(np.array([np.nan]), np.array([1.0]), "float64", unit=np.array([np.inf]))
    assert comparison.ulps == np.inf
