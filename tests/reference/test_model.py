"""Dequantization, objective and model, on a small flow with every kind of layer."""

from __future__ import annotations

import numpy as np
import pytest

from reference.bijectors import (
    ActNorm,
    Chain,
    ColumnStripes,
    Coupling,
    DataLogit,
    Flip,
    Inverse,
    InvertibleConv,
    Sigmoid,
    Squeeze,
)
from reference.conditioner import Block, Conditioner, Conv2d, GatedAttention, GatedConv, LayerNorm
from reference.dequantization import UniformDequantizer, VariationalDequantizer
from reference.elementwise import AffineFamily, MixtureLogisticFamily
from reference.model import FlowPlusPlus
from reference.objective import bits_per_dim, log_normal

SHAPE = (3, 1, 4, 4)


def conv(rng, inputs, outputs, size=1, scale=0.3):
    weight = scale * rng.standard_normal((outputs, inputs, size, size))
    return Conv2d(weight, scale * rng.standard_normal(outputs))


def gated_conv(rng, context):
    return GatedConv(
        conv(rng, 8, 4, 3), conv(rng, 8, 8), conv(rng, 2 * context, 4) if context else None
    )


def step(rng, family, channels, height, width, *, context=0):
    half = channels // 2
    outputs = half * family.parameters_per_scalar
    attention = GatedAttention(conv(rng, 4, 12), conv(rng, 4, 8), heads=2)
    block = Block(gated_conv(rng, context), LayerNorm(np.ones(4), np.zeros(4)), attention)
    net = Conditioner(
        conv(rng, half, 4, 3),
        (block,),
        conv(rng, 4, outputs, 3),
        position=rng.standard_normal((4, height, width)),
    )
    shape = (channels, height, width)
    return (
        ActNorm(rng.uniform(0.5, 2.0, shape), rng.standard_normal(shape)),
        InvertibleConv(np.eye(half) + 0.2 * rng.standard_normal((2, half, half))),
        Coupling(net, family),
        Flip(),
    )


def small_model(levels=32, *, variational=True):
    rng = np.random.default_rng(0)
    mixture = MixtureLogisticFamily(3, -7.0)
    split = ColumnStripes()
    flow = Chain(
        (
            DataLogit(levels),
            split,
            *step(rng, mixture, 2, 4, 2),
            Inverse(split),
            Squeeze(),
            *step(rng, AffineFamily(), 4, 2, 2),
        )
    )
    if not variational:
        return FlowPlusPlus(UniformDequantizer(levels), flow)
    dequantizer = VariationalDequantizer(
        levels,
        split,
        Conditioner(conv(rng, 2, 4, 3), (Block(gated_conv(rng, 0)),)),
        Chain((split, *step(rng, mixture, 2, 4, 2, context=4), Inverse(split), Sigmoid())),
    )
    return FlowPlusPlus(dequantizer, flow)


def batch(levels=32, examples=3, seed=1):
    rng = np.random.default_rng(seed)
    return rng.integers(0, levels, (examples, *SHAPE[1:]), dtype=np.uint8)


@pytest.fixture(params=[True, False], ids=["variational", "uniform"])
def model(request):
    return small_model(variational=request.param)


def noise_for(model, x, seed=2):
    return model.dequantizer.draw_noise(x.shape, np.random.default_rng(seed))


def test_noise_has_the_documented_distribution():
    rng = np.random.default_rng(0)
    uniform = small_model(variational=False).dequantizer.draw_noise((50, 3, 8, 8), rng)
    normal = small_model().dequantizer.draw_noise((50, 3, 8, 8), rng)
    assert uniform.shape == normal.shape == (50, 3, 8, 8)
    assert uniform.min() >= 0.0 and uniform.max() < 1.0 and abs(uniform.mean() - 0.5) < 0.01
    assert abs(normal.mean()) < 0.05 and abs(normal.std() - 1.0) < 0.05


def test_dequantizer_gives_its_own_density(model):
    x = batch()
    noise = noise_for(model, x)
    u, log_q = model.dequantizer.sample(x, noise)
    assert u.shape == x.shape and log_q.shape == (3,)
    assert (u >= 0.0).all() and (u < 1.0).all()
    np.testing.assert_allclose(model.dequantizer.log_prob(x, u), log_q, atol=1e-9)


def test_variational_density_integrates_to_one():
    """E_q[1 / q(u|x)] is the integral of du over the unit cube: 1 for any density q.

    The Monte Carlo estimate is accurate here because the flow has two dimensions and q varies
    little.
    """
    rng = np.random.default_rng(3)
    split = ColumnStripes()
    shape = (2, 1, 1)

    def net(inputs, outputs):
        return Conditioner(conv(rng, inputs, outputs, scale=0.1), ())

    coupling = Coupling(net(1, AffineFamily().parameters_per_scalar), AffineFamily())
    flow = Chain(
        (split, ActNorm(np.full(shape, 1.8), np.zeros(shape)), coupling, Inverse(split), Sigmoid())
    )
    dequantizer = VariationalDequantizer(8, split, net(2, 2), flow)
    x = np.full((200_000, 1, 1, 2), 3)
    _, log_q = dequantizer.sample(x, dequantizer.draw_noise(x.shape, rng))
    assert abs(np.exp(-log_q).mean() - 1.0) < 0.02


def test_variational_dequantizer_sees_the_image():
    model = small_model()
    noise = noise_for(model, batch())
    first, second = (model.dequantizer.sample(batch(seed=s), noise)[0] for s in (4, 5))
    assert not np.allclose(first, second)


@pytest.mark.parametrize("bad", [32, -1, 0.5, np.nan, np.inf])
def test_images_are_integers_of_the_scale(model, bad):
    x = batch().astype(float)
    x[1, 0, 2, 3] = bad
    kind = type(model.dequantizer).__name__
    with pytest.raises(ValueError, match=rf"{kind} needs integers within 0 \.\.\. 31, got {bad}"):
        model.dequantizer.sample(x, noise_for(model, x))


def test_noise_is_checked(model):
    x = batch()
    with pytest.raises(ValueError, match=r"needs noise of shape \(3, 1, 4, 4\), got \(1, 1, 4, 4"):
        model.dequantizer.sample(x, noise_for(model, x)[:1])
    if isinstance(model.dequantizer, UniformDequantizer):
        for bad in (1.0, -0.1, np.nan):
            with pytest.raises(ValueError, match=rf"needs noise in \[0, 1\), got {bad}"):
                model.dequantizer.sample(x, np.full(x.shape, bad))


def test_uniform_log_prob():
    u = np.full((3, 1, 2, 2), 0.5)
    u[1, 0, 0, 0], u[2, 0, 0, 0] = 1.0, np.nan
    log_q = UniformDequantizer(4).log_prob(np.zeros(u.shape), u)
    np.testing.assert_array_equal(log_q, [0.0, -np.inf, np.nan])


def test_elbo_is_the_sum_of_its_parts(model):
    x = batch()
    noise = noise_for(model, x)
    u, log_q = model.dequantizer.sample(x, noise)
    z, log_det = model.flow.forward(x + u)
    parts = model.elbo(x, noise)
    np.testing.assert_array_equal(parts.log_q, log_q)
    np.testing.assert_array_equal(parts.log_det, log_det)
    np.testing.assert_array_equal(parts.log_prior, log_normal(z))
    np.testing.assert_allclose(parts.total, log_normal(z) + log_det - log_q)
    assert parts.total.shape == (3,)
    assert (bits_per_dim(parts.total, 16) > 0).all()


def test_decode_undoes_encode(model):
    x = batch()
    noise = noise_for(model, x)
    z = model.encode(x, noise)
    assert z.size == x.size
    image = model.decode(z)
    np.testing.assert_allclose(image, x + model.dequantizer.sample(x, noise)[0], atol=1e-9)
    np.testing.assert_array_equal(np.floor(image), x)


def test_decode_stays_on_the_scale():
    model = small_model()
    image = model.decode(50.0 * np.random.default_rng(6).standard_normal((2, 4, 2, 2)))
    assert image.min() >= 0.0 and image.max() <= 32.0
    assert image.min() == 0.0 and image.max() == 32.0


def test_data_dependent_initialization(model):
    x = batch(examples=64)
    noise = noise_for(model, x)
    fitted, z = model.initialize(x, noise)
    np.testing.assert_allclose(fitted.encode(x, noise), z, atol=1e-11)
    norm = fitted.flow.bijectors[2]
    split_logits = Chain(fitted.flow.bijectors[:3]).forward(
        x + fitted.dequantizer.sample(x, noise)[0]
    )[0]
    assert isinstance(norm, ActNorm)
    np.testing.assert_allclose(split_logits.mean(axis=0), 0.0, atol=1e-11)
    np.testing.assert_allclose(split_logits.std(axis=0), 1.0, rtol=1e-6)
    if isinstance(fitted.dequantizer, VariationalDequantizer):
        context = fitted.dequantizer.context(x)
        assert not np.allclose(context, model.dequantizer.context(x))


def test_levels_have_to_agree():
    flow = Chain((Chain((DataLogit(256),)), Squeeze()))
    assert FlowPlusPlus(UniformDequantizer(256), flow).levels == 256
    with pytest.raises(ValueError, match="dequantizer's 32 levels, got 256"):
        FlowPlusPlus(UniformDequantizer(32), flow)
