"""Truncated-normal dequantization: gradients, ends of the interval, and a model built with it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from mpmath import mp, mpf

from conformance.adapters.flowpp import to_reference
from flowpp.config.build import build_model
from flowpp.dequantization import TruncatedNormalDequantizer
from flowpp.training.initialization import initialize
from flowpp.truncated_normal import LARGEST, log_density, quantile
from mpmath_truth import EPS, errors_in_u, exact, normal_mass
from reference import truncated_normal as reference
from tiny import TINY

SHAPE, LEVELS = (1, 4, 4), 17


def normals(count=12):
    """Return points, and normals with their mean in [0, 1], below and above it."""
    generator = torch.Generator().manual_seed(0)
    points = 0.02 + 0.96 * torch.rand(count, generator=generator, dtype=torch.float64)
    mean = torch.linspace(-1.5, 2.5, count, dtype=torch.float64)
    log_scale = torch.linspace(-1.0, 0.7, count, dtype=torch.float64).flip(0)
    return points, mean, log_scale


@pytest.mark.parametrize("function", [quantile, log_density])
def test_gradients_are_those_of_finite_differences(function):
    arguments = tuple(values.requires_grad_() for values in normals())
    assert torch.autograd.gradcheck(function, arguments, eps=1e-6, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("mean", [-60.0, -1.0, 0.0, 0.3, 1.0, 2.0, 60.0])
@pytest.mark.parametrize("log_scale", [-5.0, 0.0, 5.0])
def test_gradients_are_finite_far_out(mean, log_scale):
    v = torch.tensor([0.0, 1e-7, 0.5, 1.0 - 2.0**-24])
    m, s = torch.full((4,), mean).requires_grad_(), torch.full((4,), log_scale).requires_grad_()
    u = quantile(v, m, s)
    assert ((u >= 0) & (u < 1)).all()
    (u + log_density(u, m, s)).sum().backward()
    assert m.grad.isfinite().all() and s.grad.isfinite().all()


@pytest.mark.parametrize("function", [quantile, log_density])
def test_second_derivatives_are_those_of_finite_differences(function):
    arguments = tuple(values[::3].clone().requires_grad_() for values in normals())
    assert torch.autograd.gradgradcheck(function, arguments, eps=1e-6, rtol=1e-4, atol=1e-5)


def test_quantiles_invert_the_references_mass():
    v, mean, log_scale = (values.numpy() for values in normals(40))
    u = quantile(*(torch.from_numpy(values) for values in (v, mean, log_scale))).numpy()
    np.testing.assert_allclose(u, reference.quantile(v, mean, log_scale), atol=1e-14)


def extreme_normals(count=160):
    """Return probabilities, means and log-scales of all sizes, and the means and scales exactly.

    Means are up to 1e8 outside [0, 1], scales 1e-8 to 1e8, and one half of both is usual.
    """
    rng = np.random.default_rng(1)
    offset = 10.0 ** rng.uniform(-9.0, 8.0, count)
    mean = np.where(rng.random(count) < 0.5, -offset, 1.0 + offset)
    mean[::2] = rng.uniform(-1.0, 2.0, len(mean[::2]))
    mean[:6] = 0.0, 1.0, 1e-300, 1.0 - 2.0**-53, 1.0 + 2.0**-52, 0.5
    log_scale = rng.uniform(-18.0, 18.0, count)
    log_scale[::3] = rng.uniform(-2.0, 3.0, len(log_scale[::3]))
    v = rng.random(count)
    v[::5] = rng.choice([5e-324, 1e-310, 1e-100, 1e-10, 1.0 - 1e-10, LARGEST], len(v[::5]))
    exactly = [(exact(m), mp.exp(exact(s))) for m, s in zip(mean, log_scale, strict=True)]
    return v, mean, log_scale, exactly


def test_quantiles_are_precise_at_any_mean_and_scale():
    """The mass below u - 6 eps is less than the probability, and below u + 6 eps more."""
    with mp.workdps(60):
        v, mean, log_scale, exactly = extreme_normals()
        u = quantile(*(torch.from_numpy(values) for values in (v, mean, log_scale))).numpy()
        assert ((u >= 0) & (u < 1)).all()
        for p, point, (m, s) in zip(v, u, exactly, strict=True):
            ends = (max(mpf(0), exact(point) - 6 * EPS), min(mpf(1), exact(point) + 6 * EPS))
            below, above = (normal_mass(mpf(0), end, m, s) for end in ends)
            wanted = exact(p) * normal_mass(mpf(0), mpf(1), m, s)
            assert below <= wanted <= above, (p, point, m, s)


def test_log_densities_are_precise_at_any_mean_and_scale():
    with mp.workdps(60):
        u, mean, log_scale, exactly = extreme_normals()
        u = np.where(u < 1e-300, 0.0, u)
        truth = [
            -(((exact(x) - m) / s) ** 2) / 2 - mp.log(normal_mass(mpf(0), mpf(1), m, s))
            for x, (m, s) in zip(u, exactly, strict=True)
        ]
        got = log_density(*(torch.from_numpy(values) for values in (u, mean, log_scale)))
        assert max(errors_in_u(got, truth)) < 40


def test_noise_just_below_one_gives_u_below_one():
    top = torch.tensor([LARGEST], dtype=torch.float64)
    for mean in (-5.0, 0.5, 1.0, 5.0):
        u = quantile(top, torch.tensor([mean], dtype=torch.float64), torch.zeros(1).double())
        assert 0 < u < 1 and u.float() <= 1
    dequantizer = TruncatedNormalDequantizer(LEVELS, torch.nn.Identity())
    assert dequantizer.round_noise(top, torch.float32) == 1 - 2.0**-24


@pytest.fixture
def model():
    settings = replace(TINY.model, dequantization="truncated-normal")
    generator = torch.Generator().manual_seed(0)
    built = build_model(settings, SHAPE, LEVELS, generator).eval()
    x = torch.randint(LEVELS, (32, *SHAPE), generator=generator)
    initialize(built, x, built.draw_noise(x.shape, generator=generator))
    return built


def test_a_built_model_starts_near_the_uniform_distribution(model):
    x = torch.randint(LEVELS, (8, *SHAPE))
    noise = model.draw_noise(x.shape)
    u, log_q = model.dequantizer.sample(x, noise)
    assert (u - noise).abs().max() < 0.3 and log_q.abs().max() < 8
    torch.testing.assert_close(model.dequantizer.log_prob(x, u), log_q, rtol=1e-4, atol=1e-4)
    total = model.elbo(x, noise).total
    total.mean().backward()
    network = model.dequantizer.network
    assert network.proj_in.weight.grad.abs().max() > 0 and network.proj_out is not None


def test_its_reference_twin_agrees(model):
    x = torch.randint(LEVELS, (3, *SHAPE))
    noise = model.draw_noise(x.shape, dtype=torch.float64)
    with torch.no_grad():
        bound = model.double().elbo(x, noise).total.numpy()
    twin = to_reference(model)
    np.testing.assert_allclose(twin.elbo(x.numpy(), noise.numpy()).total, bound, atol=1e-9)


def test_samples_follow_the_density(model):
    """The empirical CDF of 4000 samples of one pixel agrees with the integrated density."""
    x = torch.full((4000, *SHAPE), 5)
    noise = model.draw_noise(x.shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        u = np.sort(model.dequantizer.sample(x, noise)[0][:, 0, 1, 2].numpy())
        mean, log_scale = model.dequantizer.distribution(x[:1], torch.float32)
    grid = np.linspace(0.0, 1.0, 2001)[:-1] + 0.00025
    density = np.exp(
        reference.log_density(grid, mean[0, 0, 1, 2].item(), log_scale[0, 0, 1, 2].item())
    )
    cdf = np.interp(u, grid + 0.00025, np.cumsum(density) / 2000)
    assert np.abs(cdf - (np.arange(4000) + 0.5) / 4000).max() < 0.043  # exceeded with p = 1e-6


def test_mistakes_are_named(model):
    x = torch.randint(LEVELS, (2, *SHAPE))
    with pytest.raises(ValueError, match=r"TruncatedNormalDequantizer needs noise in \[0, 1\)"):
        model.elbo(x, torch.full((2, *SHAPE), 1.0))
    wrong = TruncatedNormalDequantizer(LEVELS, torch.nn.Identity())
    with pytest.raises(ValueError, match=r"parameters of shape \(2, 2, 4, 4\) from its network"):
        wrong.sample(x, torch.rand(2, *SHAPE))
