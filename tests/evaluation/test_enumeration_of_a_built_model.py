"""Bounds of a model from `build_model`, on images small enough to enumerate.

The noise depends on the image here, which a dequantizer put together by hand need not show.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from flowpp.config import ContextConfig, FlowConfig, ModelConfig
from flowpp.config.build import build_model
from flowpp.evaluation.importance import importance_bounds
from flowpp.objective import log_normal
from flowpp.training.initialization import initialize

LEVELS, SHAPE = 3, (1, 1, 2)
IMAGES = np.array(list(itertools.product(range(LEVELS), repeat=2)), np.uint8).reshape(-1, *SHAPE)
COPIES = 150


@pytest.fixture(scope="module")
def model():
    flow = FlowConfig(
        layout="columns 1", filters=8, blocks=1, components=2, heads=2, log_scale_floor=None
    )
    settings = ModelConfig(flow=flow, dequantizer=flow, context=ContextConfig(filters=4, blocks=1))
    generator = torch.Generator().manual_seed(0)
    built = build_model(settings, image_shape=SHAPE, levels=LEVELS, generator=generator).double()
    x = torch.from_numpy(np.tile(IMAGES, (50, 1, 1, 1))).double()
    noise = built.dequantizer.draw_noise(x.shape, dtype=torch.float64, generator=generator)
    initialize(built, x, noise)
    with torch.no_grad():
        for parameter in built.parameters():
            drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(0.2 * drawn)
    return built.eval()


@pytest.fixture(scope="module")
def exact(model):
    """log2 P(x) of every image; from 40 to 60 nodes the quadrature changes by 3e-5 at most."""
    coarse, fine = (_log2_probabilities(model, nodes) for nodes in (40, 60))
    np.testing.assert_allclose(coarse, fine, atol=3e-5)
    return fine


@torch.no_grad()
def _log2_probabilities(model, nodes: int) -> np.ndarray:
    """Integrate the density of x + u over the unit square by Gauss-Legendre quadrature."""
    points, weights = np.polynomial.legendre.leggauss(nodes)
    points, weights = (points + 1) / 2, weights / 2
    u = np.stack(np.meshgrid(points, points, indexing="ij"), -1).reshape(-1, *SHAPE)
    probabilities = []
    for image in IMAGES:
        z, log_det = model.flow(torch.from_numpy(image + u))
        density = (log_normal(z) + log_det).exp().numpy()
        probabilities.append(np.outer(weights, weights).ravel() @ density)
    return np.log2(probabilities)


@pytest.fixture(scope="module")
def expectations(model):
    """log2 E[w] and E[log2 w] of every image, by the trapezoidal rule over the noise's plane.

    The noise is normal and goes through a sigmoid, so q falls off faster than p towards the faces
    of the unit cube: E[w^2] is infinite, and a mean of sampled weights has no standard error to be
    judged by. The integral needs none. sinh spreads its nodes, as E[w] has exponential tails.
    """
    t = np.arange(-4.8, 4.8001, 0.08)
    noise, weights = np.sinh(t), np.cosh(t) * 0.08
    plane = np.stack(np.meshgrid(noise, noise, indexing="ij"), -1).reshape(-1, *SHAPE)
    eps = torch.from_numpy(plane)
    log_density = log_normal(eps).numpy() + np.log(np.outer(weights, weights).ravel())
    means, logs = [], []
    for image in IMAGES:
        with torch.no_grad():
            log_w = model.elbo(torch.from_numpy(image).expand(eps.shape), eps).total.numpy()
        means.append(np.exp(log_w + log_density).sum())
        logs.append((log_w * np.exp(log_density)).sum() / math.log(2))
    return np.log2(means), np.array(logs)


def test_probabilities_sum_to_at_most_one(exact):
    assert 0.5 < np.exp2(exact).sum() <= 1 + 1e-5


def test_the_mean_weight_is_the_probability(exact, expectations):
    """E[w] = P(x) depends on every term of the weight."""
    np.testing.assert_allclose(expectations[0], exact, atol=2e-4)


def test_the_one_sample_bound_is_below_the_probability(exact, expectations):
    assert (expectations[1] < exact - 0.1).all()


def test_the_bounds_decrease_towards_the_probability(model, exact, expectations):
    bounds = [
        importance_bounds(model, np.repeat(image[None], COPIES, axis=0), 64, seed=i, batch=2400)
        for i, image in enumerate(IMAGES)
    ]
    for bound, log2_w in zip(bounds, expectations[1], strict=True):
        assert abs(bound[1].mean + log2_w / 2) < 4 * bound[1].standard_error
    gaps = {}  # bits per dimension (there are two dimensions), averaged over the images
    for samples in (1, 4, 16, 64):
        found = np.mean([bound[samples].mean for bound in bounds])
        error = math.hypot(*(bound[samples].standard_error for bound in bounds)) / len(bounds)
        gaps[samples] = found + exact.mean() / 2
        assert gaps[samples] > 4 * error  # still an upper bound on the bits
    assert gaps[1] > gaps[4] > gaps[16] > gaps[64]
    assert gaps[64] < gaps[1] / 3


def test_the_other_images_of_a_batch_do_not_matter(model):
    """Each image has its own context in any batch."""
    expected = importance_bounds(model, IMAGES, 6, seed=3, batch=1)
    for batch in (4, 5, 1000):
        found = importance_bounds(model, IMAGES, 6, seed=3, batch=batch)
        assert found.keys() == expected.keys()
        for samples in expected:
            assert found[samples].mean == pytest.approx(expected[samples].mean, abs=1e-12)
