from __future__ import annotations

import pytest
import torch
from torch import distributions as td

from flowpp.interop import FlowPlusPlusDistribution
from flowpp.objective import importance_weighted_bound, log_normal

SHAPE = (1, 4, 4)


@pytest.fixture
def images():
    return torch.randint(32, (3, *SHAPE))


@pytest.fixture
def distribution(model):
    return FlowPlusPlusDistribution(model, SHAPE)


def noise(*shape):
    return torch.randn(shape, dtype=torch.float64)


def test_shapes_and_support(distribution):
    assert distribution.event_shape == SHAPE and distribution.batch_shape == ()
    assert distribution.support.event_dim == 3
    assert distribution.latent_shape == (4, 2, 2)
    assert not distribution.has_rsample


def test_bound_with_given_noise_is_the_elbo(model, distribution, images):
    eps = noise(3, *SHAPE)
    got = distribution.log_prob(images, eps)
    torch.testing.assert_close(got, model.elbo(images, eps).total)
    assert distribution.log_prob(images[0], eps[0]).shape == ()
    stacked = distribution.log_prob(
        images[None].expand(2, *images.shape), eps.expand(2, 3, *SHAPE)
    )
    torch.testing.assert_close(stacked, got.expand(2, 3))


def test_bound_with_several_draws_is_the_importance_weighted_one(model, distribution, images):
    eps = noise(5, 3, *SHAPE)
    terms = torch.stack([model.elbo(images, draw).total for draw in eps])
    torch.testing.assert_close(
        distribution.log_prob(images, eps), importance_weighted_bound(terms)
    )


def test_noise_is_drawn_anew(model, images):
    one = FlowPlusPlusDistribution(model, SHAPE)
    assert not torch.equal(one.log_prob(images), one.log_prob(images))
    many = FlowPlusPlusDistribution(model, SHAPE, importance_samples=20)
    with torch.no_grad():
        loose = torch.stack([one.log_prob(images) for _ in range(40)]).mean()
        assert many.log_prob(images).mean() > loose


def test_log_prob_trains_the_model(model, distribution, images):
    (-distribution.log_prob(images).mean()).backward()
    assert all(p.grad is not None for p in model.parameters())


def test_samples_are_images(distribution):
    images = distribution.sample((2, 5))
    assert images.shape == (2, 5, *SHAPE) and images.dtype == torch.int64
    assert distribution.support.check(images).all()
    assert distribution.sample().shape == SHAPE
    assert distribution.log_prob(images).shape == (2, 5)


def test_samples_are_the_floor_of_reparametrized_ones(distribution):
    torch.manual_seed(1)
    real = distribution.rsample((4,))
    torch.manual_seed(1)
    images = distribution.sample((4,))
    torch.testing.assert_close(real.floor().clamp(max=31).long(), images)
    assert ((real >= 0) & (real <= 32)).all()


def test_reparametrized_samples_carry_gradients(model, distribution):
    distribution.rsample((8,)).mean().backward()
    gradients = [p.grad for p in model.flow.parameters()]
    assert all(g is not None and g.isfinite().all() for g in gradients)
    assert sum(g.abs().sum() for g in gradients) > 0


def test_density_of_dequantized_images(model, distribution, images):
    dequantized = distribution.dequantized()
    assert dequantized.has_rsample and dequantized.event_shape == SHAPE
    v = images + torch.rand(images.shape, dtype=torch.float64)
    z, log_det = model.flow(v)
    torch.testing.assert_close(dequantized.log_prob(v), log_normal(z) + log_det)
    assert dequantized.log_prob(dequantized.rsample((3,))).isfinite().all()


def test_expanded_copies(distribution, images):
    many = distribution.expand((2, 3))
    assert many.batch_shape == (2, 3) and many.event_shape == SHAPE
    assert many.sample((4,)).shape == (4, 2, 3, *SHAPE)
    assert many.log_prob(images).shape == (2, 3)
    assert many.log_prob(images[0]).shape == (2, 3)
    together = td.Independent(many, 1)
    assert together.log_prob(images).shape == (2,)
    assert many.dequantized().batch_shape == (2, 3)


def test_uniform_dequantization(uniform_model):
    uniform = FlowPlusPlusDistribution(uniform_model, SHAPE)
    assert uniform.log_prob(uniform.sample((2,))).dtype == torch.float32


def test_repr(distribution):
    assert "image_shape=(1, 4, 4), importance_samples=1" in repr(distribution)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda m: FlowPlusPlusDistribution(m.flow, SHAPE), TypeError, "FlowPlusPlus, got Chain"),
        (lambda m: FlowPlusPlusDistribution(m, (4, 4)), ValueError, r"image_shape .*\(4, 4\)"),
        (lambda m: FlowPlusPlusDistribution(m, (1, 3, 3)), ValueError, "even width, got 3"),
        (
            lambda m: FlowPlusPlusDistribution(m, SHAPE, importance_samples=0),
            ValueError,
            "at least 1 importance sample, got 0",
        ),
        (
            lambda m: FlowPlusPlusDistribution(m, SHAPE, validate_args=True).log_prob(
                torch.full(SHAPE, 32)
            ),
            ValueError,
            "images must be integers 0 ... 31, got 32",
        ),
        (
            lambda m: FlowPlusPlusDistribution(m, SHAPE, validate_args=True).log_prob(
                torch.full(SHAPE, 0.5)
            ),
            ValueError,
            "images must be .*, got numbers between 0 and 1: multiply by 31",
        ),
        (
            lambda m: FlowPlusPlusDistribution(m, SHAPE, validate_args=True).log_prob(
                torch.ones(1, 4, 6)
            ),
            ValueError,
            r"images \(..., 1, 4, 4\), got \(1, 4, 6\)",
        ),
        (
            lambda m: FlowPlusPlusDistribution(m, SHAPE, validate_args=True).log_prob(
                torch.ones(2, *SHAPE), noise(3, *SHAPE)
            ),
            ValueError,
            r"noise of shape \(2, 1, 4, 4\) or .*got \(3, 1, 4, 4\)",
        ),
    ],
)
def test_invalid_arguments(model, make, error, message):
    with pytest.raises(error, match=message):
        make(model)
