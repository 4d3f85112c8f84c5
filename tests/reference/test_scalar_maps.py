"""The other scalar maps against hundred-digit arithmetic; u = eps max(1, |truth|)."""

from __future__ import annotations

import numpy as np
import pytest
from mpmath import mp, mpf

from mpmath_truth import (
    DIGITS,
    EPS,
    data_logit,
    data_logit_inverse,
    errors_in_u,
    exact,
    log_sigmoid_slope,
    logit,
    sigmoid,
)
from reference import objective
from reference.bijectors import Affine, DataLogit, Sigmoid
from reference.bijectors import sigmoid as sigmoid_module

REALS = np.concatenate(
    [
        np.array([0.0, 5e-324, 1e-300, 1e-20, 1e-8, 1e-3, 1.0, 5.0, 10.0, 17.5, 30.0, 37.5]),
        np.array([100.0, 709.0, 745.0, 1e3, 1e10, 1e30]),
        np.random.default_rng(0).uniform(0.0, 50.0, 200),
    ]
)
REALS = np.concatenate([REALS, -REALS])


@pytest.fixture(autouse=True)
def many_digits():
    with mp.workdps(DIGITS):
        yield


def one_by_one(bijector, values, direction="forward"):
    """Output and log-det of each number alone."""
    output, log_det = getattr(bijector, direction)(np.reshape(values, (-1, 1, 1, 1)))
    return output.ravel(), log_det


def test_sigmoid():
    y, log_det = one_by_one(Sigmoid(), REALS)
    want = [sigmoid(exact(x)) for x in REALS]
    # Relative to the value itself, down to the smallest float64.
    for got, true in zip(y, want, strict=True):
        assert abs(exact(got) - true) <= 3 * EPS * true + mpf(2) ** -1074
    assert errors_in_u(log_det, [log_sigmoid_slope(exact(x)) for x in REALS]).max() <= 3.0


def test_sigmoid_slope_is_even():
    slope = sigmoid_module.log_sigmoid_slope(REALS)
    np.testing.assert_array_equal(slope, sigmoid_module.log_sigmoid_slope(-REALS))


def test_sigmoid_inverse():
    rng = np.random.default_rng(1)
    near = np.concatenate([10.0 ** -rng.uniform(0.0, 300.0, 100), rng.uniform(0.0, 1.0, 200)])
    y = np.concatenate([near, 1.0 - 2.0 ** -np.arange(1.0, 54.0), [5e-324, 0.5]])
    x, log_det = one_by_one(Sigmoid(), y, "inverse")
    pairs = [(exact(p), 1 - exact(p)) for p in y]
    assert errors_in_u(x, [logit(p, q) for p, q in pairs]).max() <= 3.0
    assert errors_in_u(log_det, [-mp.log(p) - mp.log(q) for p, q in pairs]).max() <= 3.0


def test_sigmoid_inverse_at_and_beyond_the_ends():
    x, log_det = one_by_one(Sigmoid(), [0.0, 1.0, -0.1, 1.1, np.nan], "inverse")
    np.testing.assert_array_equal(x, [-np.inf, np.inf, np.nan, np.nan, np.nan])
    np.testing.assert_array_equal(log_det, [np.inf, np.inf, np.nan, np.nan, np.nan])


@pytest.mark.parametrize("levels", [256, 32, 8, 17])
@pytest.mark.parametrize("margin", [0.05, 0.01, 1e-6])
def test_data_logit(levels, margin):
    rng = np.random.default_rng(levels)
    x = np.concatenate(
        [
            np.arange(levels + 1.0),
            rng.uniform(0.0, levels, 100),
            10.0 ** -rng.uniform(0.0, 20.0, 30),
            levels - 10.0 ** -rng.uniform(0.0, 15.0, 30),
        ]
    )
    y, log_det = one_by_one(DataLogit(levels, margin), x)
    want_y, want_log = zip(*(data_logit(v, levels, margin) for v in x), strict=True)
    assert errors_in_u(y, want_y).max() <= 3.0
    assert errors_in_u(log_det, want_log).max() <= 3.0


@pytest.mark.parametrize("levels", [256, 32, 8, 17])
@pytest.mark.parametrize("margin", [0.05, 0.01, 1e-6])
def test_data_logit_inverse(levels, margin):
    bijector = DataLogit(levels, margin)
    y = np.concatenate([REALS, one_by_one(bijector, np.arange(levels + 1.0))[0]])
    x, log_det = one_by_one(bijector, y, "inverse")
    want_x, want_log = zip(*(data_logit_inverse(v, levels, margin) for v in y), strict=True)
    # Errors of image values are measured relative to `levels`, their magnitude.
    errors = [float(abs(exact(g) - w)) for g, w in zip(x, want_x, strict=True)]
    assert max(errors) <= 3.0 * EPS * levels
    assert errors_in_u(log_det, want_log).max() <= 3.0


def test_data_logit_ends_mirror_each_other():
    bijector = DataLogit(256)
    low, high = one_by_one(bijector, [0.0, 256.0])[0]
    assert low == -high
    assert errors_in_u(low, [logit(exact(0.05), 1 - exact(0.05))]) <= 1.0
    x = one_by_one(bijector, [low, high], "inverse")[0]
    np.testing.assert_allclose(x, [0.0, 256.0], atol=256 * EPS)


def test_data_logit_domain():
    """Values slightly beyond [0, levels] are in the domain; those further out give NaN."""
    bijector = DataLogit(256)
    x = np.array([-14.0, 270.0])
    np.testing.assert_allclose(
        one_by_one(bijector, one_by_one(bijector, x)[0], "inverse")[0], x, rtol=1e-12
    )
    y, log_det = one_by_one(bijector, [-15.0, 271.0, np.nan])
    assert np.isnan(y).all() and np.isnan(log_det).all()


@pytest.mark.parametrize("wrong", [{"levels": 0}, {"levels": 256, "margin": 0.5}])
def test_data_logit_refuses(wrong):
    with pytest.raises(ValueError, match="DataLogit needs"):
        DataLogit(**wrong)


def test_affine():
    rng = np.random.default_rng(2)
    x, shift = rng.standard_normal((2, 300)) * 10.0 ** rng.uniform(-5.0, 5.0, (2, 300))
    log_scale = rng.uniform(-30.0, 30.0, 300)
    as_column = (300, 1, 1, 1)
    bijector = Affine(log_scale.reshape(as_column), shift.reshape(as_column))
    y, log_det = one_by_one(bijector, x)
    np.testing.assert_array_equal(log_det, log_scale)
    for got, v, s, t in zip(y, x, log_scale, shift, strict=True):
        scaled = exact(v) * mp.exp(exact(s))
        # The two terms may cancel, so the error is relative to the larger one.
        assert abs(exact(got) - scaled - exact(t)) <= 3 * EPS * max(1, abs(scaled), abs(exact(t)))
    back, log_det = one_by_one(bijector, y, "inverse")
    np.testing.assert_array_equal(log_det, -log_scale)
    for got, v, s, t in zip(back, y, log_scale, shift, strict=True):
        true = (exact(v) - exact(t)) / mp.exp(exact(s))
        assert abs(exact(got) - true) <= 3 * EPS * abs(true)


def test_log_normal():
    rng = np.random.default_rng(3)
    z = rng.standard_normal((8, 3, 4, 4)) * 10.0 ** rng.uniform(-3.0, 4.0, (8, 1, 1, 1))
    z[0] = 0.0
    want = [
        mp.fsum(-(exact(v) ** 2) / 2 - mp.log(2 * mp.pi) / 2 for v in example.ravel())
        for example in z
    ]
    assert errors_in_u(objective.log_normal(z), want).max() <= 3.0
    assert objective.log_normal(np.full((1, 2), 1e200)) == -np.inf
    assert np.isnan(objective.log_normal([[np.nan, 0.0]])).all()


def test_importance_weighted_bound():
    rng = np.random.default_rng(4)
    weights = rng.standard_normal((50, 6)) * np.array([1e-3, 1.0, 10.0, 100.0, 1e3, 1e6]) - 4000.0
    want = [mp.log(mp.fsum(mp.exp(exact(v)) for v in column) / 50) for column in weights.T]
    assert errors_in_u(objective.importance_weighted_bound(weights), want).max() <= 3.0


def test_importance_weighted_bound_at_infinities():
    weights = np.array([[-np.inf, -np.inf, np.inf, np.nan], [-np.inf, 0.0, 1.0, 0.0]])
    got = objective.importance_weighted_bound(weights)
    np.testing.assert_allclose(got, [-np.inf, -np.log(2.0), np.inf, np.nan])


def test_importance_weighted_bound_of_one_is_the_elbo():
    log_weights = np.array([[-7000.123, 3.0]])
    np.testing.assert_array_equal(objective.importance_weighted_bound(log_weights), log_weights[0])
    with pytest.raises(ValueError, match="at least 1 sample, got"):
        objective.importance_weighted_bound(np.zeros((0, 3)))


def test_bits_per_dim():
    want = [exact(7000.5) / (3072 * mp.log(2))]
    assert errors_in_u(objective.bits_per_dim(-7000.5, 3072), want) <= 3.0
    with pytest.raises(ValueError, match="at least 1 dimension, got 0"):
        objective.bits_per_dim(-1.0, 0)
