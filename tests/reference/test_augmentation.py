"""Augmented models: the bound against quadrature over the augmentation, and the contract."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.special import logsumexp

from conformance.cases import CASES
from reference.bijectors import Chain, DataLogit, FirstChannels, Squeeze
from reference.dequantization import UniformDequantizer
from reference.model import FlowPlusPlus
from reference.objective import importance_weighted_bound, log_normal


def built(name, seed=0):
    return CASES[f"flow_plus_plus/{name}"].build(np.random.default_rng(seed))


@pytest.fixture
def model():
    return built("augmented")


def batch(model, examples=3, seed=1):
    rng = np.random.default_rng(seed)
    x = rng.integers(0, model.levels, (examples, 1, 4, 4), dtype=np.uint8)
    return x, model.draw_noise(x.shape, rng)


def square(radius, count):
    """Return a grid of [-radius, radius]^2, as two channels of a pixel, and its cells' area."""
    line = np.linspace(-radius, radius, count)
    nodes = np.stack(np.meshgrid(line, line, indexing="ij"), -1).reshape(-1, 2, 1, 1)
    return nodes, (line[1] - line[0]) ** 2


@pytest.mark.parametrize("level", [0, 2])
def test_the_density_does_not_depend_on_q(level):
    """E_q[p(y, e) / q(e|y)] = integral of p(y, e) over e, and the mean bound is below."""
    model = built("alphabet_augmented")
    assert model.augmenter is not None
    e, area = square(18.0, 145)
    y = np.full((len(e), 1, 1, 1), level + 0.3)
    z, log_det = model.flow.forward(np.concatenate([y, e], axis=1))
    exact = logsumexp(log_normal(z) + log_det) + np.log(area)

    eps, area = square(10.0, 81)
    noise = np.concatenate([np.full((len(eps), 1, 1, 1), 0.3), eps], axis=1)
    x = np.full((len(eps), 1, 1, 1), level)
    bound, log_weight = model.elbo(x, noise).total, log_normal(eps) + np.log(area)
    np.testing.assert_allclose(logsumexp(bound + log_weight), exact, atol=1e-6)
    assert bound @ np.exp(log_weight) < exact - 1e-3


def test_many_samples_approach_the_density():
    """The importance-weighted bound is within five of its standard errors."""
    model, rng = built("alphabet_augmented"), np.random.default_rng(3)
    e, area = square(18.0, 145)
    z, log_det = model.flow.forward(np.concatenate([np.full((len(e), 1, 1, 1), 1.3), e], axis=1))
    exact = logsumexp(log_normal(z) + log_det) + np.log(area)
    noise = model.draw_noise((20_000, 1, 1, 1), rng)
    noise[:, 0] = 0.3
    weights = model.elbo(np.ones((len(noise), 1, 1, 1)), noise).total
    spread = np.exp(weights).std() / np.exp(weights).mean() / np.sqrt(len(weights))
    assert abs(importance_weighted_bound(weights) - exact) < 5 * spread < 0.1


def test_log_prob_is_the_density_of_samples(model):
    x, noise = batch(model)
    images = x + 0.5
    e, log_q = model.augmenter.sample(images, noise[:, 1:])
    assert e.shape == (3, 2, 4, 4)
    np.testing.assert_allclose(model.augmenter.log_prob(images, e), log_q, atol=1e-9)
    other, _ = model.augmenter.sample(images[::-1], noise[:, 1:])
    assert not np.allclose(e, other)


def test_elbo_is_the_sum_of_its_parts(model):
    x, noise = batch(model)
    u, log_q = model.dequantizer.sample(x, noise[:, :1])
    e, log_q_of_e = model.augmenter.sample(x + u, noise[:, 1:])
    z, log_det = model.flow.forward(np.concatenate([x + u, e], axis=1))
    parts = model.elbo(x, noise)
    np.testing.assert_array_equal(parts.log_q, log_q + log_q_of_e)
    np.testing.assert_array_equal(parts.log_det, log_det)
    np.testing.assert_array_equal(parts.log_prior, log_normal(z))


def test_decode_undoes_encode_and_drops_the_augmentation(model):
    x, noise = batch(model)
    z = model.encode(x, noise)
    assert z.shape == (3, 12, 2, 2)
    image = model.decode(z)
    np.testing.assert_allclose(image, x + noise[:, :1], atol=1e-8)
    np.testing.assert_array_equal(np.floor(image), x)


def test_data_dependent_initialization(model):
    x, noise = batch(model, 32)
    fitted, z = model.initialize(x, noise)
    np.testing.assert_allclose(fitted.encode(x, noise), z, atol=1e-10)
    e, _ = fitted.augmenter.sample(x + noise[:, :1], noise[:, 1:])
    assert not np.allclose(e, model.augmenter.sample(x + noise[:, :1], noise[:, 1:])[0])


def test_mistakes_are_named(model):
    x, noise = batch(model)
    for wrong in (noise[:, :1], noise[:2]):
        with pytest.raises(ValueError, match=r"FlowPlusPlus needs noise of shape \(3, 3, 4, 4\)"):
            model.elbo(x, wrong)
    with pytest.raises(ValueError, match=r"Augmenter needs e of shape \(3, 2, 4, 4\), got \(3, 1"):
        model.augmenter.log_prob(x, noise[:, :1])
    with pytest.raises(ValueError, match=r"Augmenter needs noise of shape .* got \(3, 3, 4, 4\)"):
        model.augmenter.sample(x, noise)
    for name, value in (("levels", 1), ("channels", 0)):
        with pytest.raises(ValueError, match=f"Augmenter needs at least .*, got {value}"):
            dataclasses.replace(model.augmenter, **{name: value})


def test_levels_have_to_agree(model):
    with pytest.raises(ValueError, match="augmenter for the dequantizer's 8 levels, got 32"):
        FlowPlusPlus(UniformDequantizer(8), Chain(()), model.augmenter)
    flow = Chain((FirstChannels(DataLogit(256), 1), Squeeze()))
    with pytest.raises(ValueError, match="flow for the dequantizer's 32 levels, got 256"):
        FlowPlusPlus(UniformDequantizer(32), flow)


def test_first_channels_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="at least 1 channel, got 0"):
        FirstChannels(DataLogit(4), 0)
    with pytest.raises(ValueError, match="FirstChannels needs at least 3 channels, got 2"):
        FirstChannels(DataLogit(4), 3).forward(np.ones((1, 2, 2, 2)))
    with pytest.raises(ValueError, match=r"keeps the shape \(1, 1, 2, 2\), got \(1, 4, 1, 1\)"):
        FirstChannels(Squeeze(), 1).forward(np.ones((1, 2, 2, 2)))
