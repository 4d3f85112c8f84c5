from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from conformance.numerics.quadrature import Density, integrate, noise_to_cover


def normal(x):
    return -0.5 * (x * x + np.log(2 * np.pi)).sum(axis=1)


@pytest.mark.parametrize("dimensions", [1, 2])
@pytest.mark.parametrize("scale", [0.01, 1.0, 50.0])
def test_a_normal_density_integrates_to_one(dimensions, scale):
    grid = integrate(
        Density(),
        lambda x: normal(x / scale) - dimensions * np.log(scale),
        scale * noise_to_cover(dimensions),
    )
    assert abs(grid.integral - 1) < 1e-10 and grid.uncertainty < 1e-9


def test_an_interval_is_mapped_to_the_line():
    beta = stats.beta(3.0, 2.5)
    density = Density("forward", -1.0, 3.0)
    ends = np.array([[-0.9999], [2.9999]])
    grid = integrate(density, lambda x: beta.logpdf((x[:, 0] + 1) / 4) - np.log(4), ends)
    assert abs(grid.integral - 1) < 1e-9


@pytest.mark.parametrize("low", [-np.inf, -2.0])
def test_the_map_to_the_line_and_its_slope(low):
    density = Density("inverse", low, -low)
    u = np.linspace(-8, 8, 33)
    x, log_slope = density.from_line(u)
    np.testing.assert_allclose(density.to_line(x), u, rtol=1e-9, atol=1e-12)
    step = 1e-6
    slope = (density.from_line(u + step)[0] - density.from_line(u - step)[0]) / (2 * step)
    np.testing.assert_allclose(np.exp(log_slope), slope, rtol=1e-4)


def test_marginals_are_the_marginals():
    scale = np.array([1.0, 3.0])
    grid = integrate(
        Density(), lambda x: normal(x / scale) - np.log(scale).sum(), scale * noise_to_cover(2)
    )
    for axis in (0, 1):
        u, cdf = grid.marginal(axis)
        np.testing.assert_allclose(cdf, stats.norm.cdf(u / scale[axis]), atol=2e-3)


def test_a_density_with_a_corner_is_integrated_less_well_and_is_uncertain():
    def laplace(x):
        return -abs(x - 0.1234).sum(axis=1) - np.log(2)

    grid = integrate(Density(), laplace, 3 * noise_to_cover(1))
    assert grid.integral == pytest.approx(1, abs=1e-4)
    assert grid.uncertainty > 1e-8


def test_a_nan_density_is_refused():
    with pytest.raises(FloatingPointError, match="not a number at"):
        integrate(Density(), lambda x: np.full(len(x), np.nan), noise_to_cover(1))


@pytest.mark.parametrize("dimensions", [1, 2])
def test_the_covered_noise_reaches_far_enough(dimensions):
    radius = np.linalg.norm(noise_to_cover(dimensions), axis=1).max()
    assert stats.chi2.sf(radius**2, dimensions) < 1e-10
