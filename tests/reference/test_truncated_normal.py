"""The truncated normal against many-digit arithmetic, and its own quantiles and integral.

The unit of error u is eps max(1, |truth|).
"""

from __future__ import annotations

import numpy as np
import pytest
from mpmath import mp, mpf

from mpmath_truth import DIGITS, EPS, errors_in_u, exact, normal_mass
from reference.truncated_normal import LARGEST, log_density, quantile

SEED = 0


def grid(count=60):
    """Draw normals with means in [0, 1], near it and far, and scales from 0.02 to 50."""
    rng = np.random.default_rng(SEED)
    third = count // 3
    mean = np.concatenate(
        [rng.random(third), rng.uniform(-3.0, 4.0, third), rng.uniform(-20.0, 20.0, third)]
    )
    points = rng.random(count)
    points[:3], points[third : third + 3] = (0.0, LARGEST, 1e-9), (0.0, LARGEST, 1e-9)
    return points, mean, rng.uniform(-4.0, 4.0, count)


@pytest.fixture(autouse=True)
def many_digits():
    with mp.workdps(DIGITS):
        yield


def test_log_density_is_accurate():
    u, mean, log_scale = grid()
    truth = []
    for point, m, log_s in zip(u, mean, log_scale, strict=True):
        x, m, s = exact(point), exact(m), mp.exp(exact(log_s))
        truth.append(-(((x - m) / s) ** 2) / 2 - mp.log(normal_mass(mpf(0), mpf(1), m, s)))
    assert max(errors_in_u(log_density(u, mean, log_scale), truth)) < 60


def test_the_mass_below_a_quantile_is_the_probability():
    v, mean, log_scale = grid()
    u = quantile(v, mean, log_scale)
    assert ((u >= 0) & (u < 1)).all()
    for p, point, m, log_s in zip(v, u, mean, log_scale, strict=True):
        m, s = exact(m), mp.exp(exact(log_s))
        whole = normal_mass(mpf(0), mpf(1), m, s)
        density = mp.exp(-(((exact(point) - m) / s) ** 2) / 2) / whole
        off = abs(normal_mass(mpf(0), exact(point), m, s) / whole - exact(p)) / density
        assert off < 20 * EPS, (p, point, m, log_s)


@pytest.mark.parametrize("mean", [-3.0, 0.0, 0.2, 0.5, 1.0, 40.0])
@pytest.mark.parametrize("log_scale", [-1.5, 0.0, 3.0])
def test_the_density_integrates_to_one(mean, log_scale):
    nodes, weights = np.polynomial.legendre.leggauss(200)
    values = np.exp(log_density(0.5 * (nodes + 1.0), mean, log_scale))
    assert 0.5 * values @ weights == pytest.approx(1.0, abs=1e-10)


def test_wide_normals_are_uniform_and_narrow_ones_follow_their_mean():
    v = np.linspace(0.05, 0.95, 7)
    np.testing.assert_allclose(quantile(v, 0.3, 12.0), v, atol=1e-9)
    np.testing.assert_allclose(log_density(v, 0.3, 12.0), 0.0, atol=1e-9)
    assert abs(quantile(v, 0.3, -9.0) - 0.3).max() < 1e-3
    # Far from its mean, a normal falls as an exponential distribution.
    rate = 30.0
    expected = -np.log1p(-v * -np.expm1(-rate)) / rate
    np.testing.assert_allclose(quantile(v, -rate * 1e6, 0.5 * np.log(1e6)), expected, atol=1e-6)


def test_the_mirror_image_has_the_mirrored_mean():
    u, mean, log_scale = grid()
    u = 2.0**-20 * np.floor(2.0**20 * u[u > 1e-6])
    mean, log_scale = np.round(mean[: len(u)], 3), log_scale[: len(u)]
    there, back = log_density(u, mean, log_scale), log_density(1.0 - u, 1.0 - mean, log_scale)
    kept = (u > 0) & (np.exp(-log_scale) * (np.abs(mean) + 1) < 100)
    np.testing.assert_allclose(there[kept], back[kept], rtol=1e-9, atol=1e-9)


def test_what_is_outside_or_unknown():
    np.testing.assert_array_equal(
        log_density([-0.1, 1.0, np.inf, np.nan], 0.5, 0.0), [-np.inf] * 3 + [np.nan]
    )
    for wrong in ((np.nan, 0.0), (np.inf, 0.0), (0.5, np.nan), (0.5, np.inf), (0.5, -np.inf)):
        assert np.isnan(log_density(0.5, *wrong)) and np.isnan(quantile(0.5, *wrong))
    assert np.isnan(quantile([-0.1, 1.0, np.nan], 0.5, 0.0)).all()
    assert quantile(0.0, 5.0, -3.0) == 0.0
