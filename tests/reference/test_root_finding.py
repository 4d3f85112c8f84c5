"""Root finding on functions whose roots are known."""

from __future__ import annotations

import numpy as np
import pytest

from reference.root_finding import EPS, RootFindingError, bisection, find_root


def cube(x, index):
    return x**3


def test_find_root_to_the_last_bit():
    target = np.array([[8.0, -27.0, 2.0], [0.0, 1e-30, 1e30]])
    found = find_root(cube, target, np.full((2, 3), -1e12), np.full((2, 3), 1e12))
    unit = EPS * np.maximum(1.0, np.abs(target))
    # Half a spacing of x moves x^3 by 1.5 units of 8, ...
    assert (np.abs(found.residual) <= 2.0 * unit).all()
    np.testing.assert_array_equal(found.root[0, :2], [2.0, -3.0])
    np.testing.assert_array_equal(found.residual, found.root**3 - target)
    assert found.evaluations.shape == (2, 3) and (found.evaluations > 2).all()


def test_find_root_passes_each_elements_index():
    slopes = np.array([[1.0, 2.0], [4.0, 8.0]])

    def line(x, index):
        return slopes.ravel()[index] * x

    found = find_root(line, np.ones((2, 2)), -np.ones((2, 2)), np.full((2, 2), 3.0))
    np.testing.assert_array_equal(found.root, 1.0 / slopes)


def test_find_root_of_a_step():
    """No number attains the target: the root is one of the two that straddle it."""
    found = find_root(
        lambda x, index: np.where(x < 0.3, -1.0, 1.0),
        np.array([0.25]),
        np.array([-5.0]),
        np.array([7.0]),
    )
    assert found.root == 0.3
    assert found.width == np.spacing(np.nextafter(0.3, 0.0))
    assert found.residual == 0.75


def test_find_root_of_a_staircase():
    """Narrow steps between wide plateaus, where a plain Newton iteration cycles."""
    corners = np.arange(-20.0, 21.0)

    def stairs(x, index):
        return np.tanh((x[:, None] - corners) * 1e4).sum(axis=1) + 1e-6 * x

    target = np.random.default_rng(0).uniform(-39.0, 39.0, 200)
    found = find_root(stairs, target, np.full(200, -1e3), np.full(200, 1e3))
    slope = 1e4 * (1.0 - np.tanh((found.root[:, None] - corners) * 1e4) ** 2).sum(axis=1) + 1e-6
    reachable = slope * np.spacing(np.abs(found.root)) + 8 * EPS * np.maximum(1, np.abs(target))
    assert (np.abs(found.residual) <= reachable).all()


def test_find_root_leaves_out_nan():
    bounds = np.full(3, 10.0)
    found = find_root(cube, np.array([1.0, np.nan, 8.0]), -bounds, bounds)
    np.testing.assert_array_equal(found.root, [1.0, np.nan, 2.0])
    nothing = find_root(cube, np.full(3, np.nan), -bounds, bounds)
    assert np.isnan(nothing.root).all() and (nothing.evaluations == 0).all()


def test_find_root_raises_without_a_bracket():
    with pytest.raises(RootFindingError, match=r"no root found for 1 of 2 targets.* 5000"):
        find_root(cube, np.array([1.0, 5000.0]), np.zeros(2), np.full(2, 10.0))


def test_find_root_raises_on_nan_values():
    with pytest.raises(RootFindingError):
        find_root(lambda x, index: x * np.nan, np.zeros(1), -np.ones(1), np.ones(1))


def test_bisection():
    target, lower, upper = np.array([8.0, 1.0]), np.zeros(2), np.array([10.0, 5.0])
    found = bisection(cube, target, lower, upper, tolerance=1e-6)
    np.testing.assert_allclose(found.root, [2.0, 1.0], atol=1e-6)
    assert (found.width <= 1e-6).all()
    np.testing.assert_array_equal(found.evaluations, np.ceil(np.log2(upper / 1e-6)))
    np.testing.assert_array_equal(found.residual, found.root**3 - target)


def test_bisection_reports_its_progress():
    found = bisection(cube, np.array([8.0]), np.zeros(1), np.full(1, 16.0), max_iterations=3)
    assert found.width == 2.0 and found.evaluations == 3 and found.root == 1.0


def test_bisection_returns_the_end_of_a_bracket_that_holds_no_root():
    found = bisection(cube, np.array([1e9]), np.zeros(1), np.full(1, 10.0))
    assert abs(found.root[0] - 10.0) < 1e-11
    assert found.residual < -1e8
