"""Conditional models as distributions given a context."""

from __future__ import annotations

import pytest
import torch

from conditional import conditional_model
from flowpp.interop import ConditionalFlowPlusPlus, FlowPlusPlusDistribution
from tiny import TINY

SHAPE = (1, 8, 8)
CONTEXTS = {
    "labels": torch.tensor([0, 2, 3]),
    "vectors": torch.tensor([[0.0, 1.0], [2.0, -1.0], [0.5, 0.5]]),
    "low-resolution": torch.arange(48).reshape(3, 1, 4, 4) % 17,
}


@pytest.fixture(params=CONTEXTS)
def kind(request):
    return request.param


@pytest.fixture
def model(kind):
    return conditional_model(TINY.model, SHAPE, 17, kind)


@pytest.fixture
def images():
    return torch.randint(17, (3, *SHAPE), generator=torch.Generator().manual_seed(0))


def test_log_prob_is_the_elbo_given_the_context(model, kind, images):
    context = CONTEXTS[kind]
    given = ConditionalFlowPlusPlus(model, SHAPE)(context)
    assert given.batch_shape == (3,) and given.event_shape == SHAPE
    noise = torch.randn(3, *SHAPE)
    expected = model.elbo(images, noise, context).total
    torch.testing.assert_close(given.log_prob(images, noise), expected)
    one = ConditionalFlowPlusPlus(model, SHAPE).condition(context[1])
    assert one.batch_shape == ()
    same = model.elbo(images, noise, context[1:2].expand_as(context)).total
    torch.testing.assert_close(one.log_prob(images, noise), same)
    assert given.log_prob(images[0]).shape == (3,)


def test_samples_of_each_context(model, kind):
    given = FlowPlusPlusDistribution(model, SHAPE, context=CONTEXTS[kind])
    torch.manual_seed(0)
    drawn = given.sample((2,))
    assert drawn.shape == (2, 3, *SHAPE)
    torch.manual_seed(0)
    z = torch.randn(6, *given.latent_shape)
    context = CONTEXTS[kind].repeat(2, *[1] * (CONTEXTS[kind].ndim - 1))
    assert torch.equal(drawn.flatten(0, 1), model.decode_images(z, context).long())
    wide = given.expand((4, 3))
    assert wide.sample().shape == (4, 3, *SHAPE)
    assert given.rsample().requires_grad


def test_the_density_of_dequantized_images(model, kind, images):
    context = CONTEXTS[kind]
    given = FlowPlusPlusDistribution(model, SHAPE, context=context)
    noise = torch.randn(3, *SHAPE)
    features = model.features(context, images.shape)
    entered, log_q = model.flow_input(images, noise, features)
    density = given.dequantized().log_prob(entered)
    torch.testing.assert_close(density - log_q, given.log_prob(images, noise))


def test_wrong_contexts(kind, model):
    with pytest.raises(ValueError, match="got no context for a conditional model"):
        FlowPlusPlusDistribution(model, SHAPE)
    plain = conditional_model(TINY.model, SHAPE, 17, None)
    with pytest.raises(ValueError, match="got a context for an unconditional model"):
        FlowPlusPlusDistribution(plain, SHAPE, context=CONTEXTS[kind])
    with pytest.raises(ValueError, match="needs a conditional model, got an unconditional one"):
        ConditionalFlowPlusPlus(plain, SHAPE)
    with pytest.raises(TypeError, match="must be a FlowPlusPlus"):
        ConditionalFlowPlusPlus(model.flow, SHAPE)


def test_images_given_too_few_axes():
    model = conditional_model(TINY.model, SHAPE, 17, "low-resolution")
    with pytest.raises(ValueError, match=r"at least 3 axes, got \(4, 4\)"):
        FlowPlusPlusDistribution(model, SHAPE, context=torch.zeros(4, 4))
