"""The importance-weighted training objective: its gradient, its draws, and one draw as before."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from conformance.adapters.flowpp import to_reference
from flowpp.config.build import build_model
from flowpp.training.batches import NoisyImages
from flowpp.training.gradients import accumulate_gradients
from flowpp.training.initialization import initialize
from flowpp.training.objective import training_bound
from reference.objective import importance_weighted_bound
from tiny import TINY

SHAPE, LEVELS, DRAWS = (1, 4, 4), 17, 3


@pytest.fixture
def model():
    settings = replace(TINY.model, augment=1)
    generator = torch.Generator().manual_seed(0)
    built = build_model(settings, SHAPE, LEVELS, generator).double().eval()
    x = torch.randint(LEVELS, (16, *SHAPE), generator=generator)
    initialize(built, x, built.draw_noise(x.shape, dtype=torch.float64, generator=generator))
    with torch.no_grad():
        for p in built.parameters():
            p.add_(0.1 * torch.randn(p.shape, dtype=p.dtype, generator=generator))
    return built


@pytest.fixture
def batch(model):
    generator = torch.Generator().manual_seed(1)
    x = torch.randint(LEVELS, (2, *SHAPE), generator=generator).double()
    shape = (2 * DRAWS, *SHAPE)
    noise = model.draw_noise(shape, dtype=torch.float64, generator=generator)
    return x, noise.unflatten(0, (2, DRAWS))


def reference_loss(model, x, noise):
    """Return the mean over images of -log mean exp(bound), draw by draw, by the reference."""
    twin = to_reference(model)
    bounds = [twin.elbo(x.numpy(), noise[:, draw].numpy()).total for draw in range(DRAWS)]
    return -importance_weighted_bound(np.stack(bounds)).mean()


@pytest.mark.parametrize("part", ["flow", "dequantizer", "augmenter"])
def test_the_gradient_is_that_of_the_references_bound(model, batch, part):
    """Along a random direction of the weights of one part, by central differences."""
    loss = accumulate_gradients(model, *batch, parts=1)
    assert loss.item() == pytest.approx(reference_loss(model, *batch), rel=1e-10)
    generator = torch.Generator().manual_seed(2)
    parameters = list(getattr(model, part).parameters())
    along = [torch.randn(p.shape, dtype=p.dtype, generator=generator) for p in parameters]
    slope = sum(float((p.grad * a).sum()) for p, a in zip(parameters, along, strict=True))
    step, losses = 1e-5, []
    for sign in (1, -1):
        with torch.no_grad():
            for p, a in zip(parameters, along, strict=True):
                p.add_(a, alpha=sign * step)
            losses.append(reference_loss(model, *batch))
            for p, a in zip(parameters, along, strict=True):
                p.sub_(a, alpha=sign * step)
    assert slope == pytest.approx((losses[0] - losses[1]) / (2 * step), rel=1e-5)


def test_parts_of_a_batch_give_the_gradient_of_the_whole(model, batch):
    losses, gradients = [], []
    for parts in (1, 2):
        model.zero_grad()
        losses.append(accumulate_gradients(model, *batch, parts=parts))
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-9)


def test_more_draws_are_a_tighter_bound_and_one_is_the_elbo(model, batch):
    x, noise = batch
    with torch.no_grad():
        many = training_bound(model, x, noise)
        each = torch.stack([training_bound(model, x, noise[:, d]) for d in range(DRAWS)])
        assert torch.equal(each[0], model.elbo(x, noise[:, 0]).total)
        torch.testing.assert_close(training_bound(model, x, noise[:, :1]), each[0])
    assert many.shape == (2,)
    assert (many > each.mean(0)).all() and (many < each.max(0).values).all()


def test_draws_of_an_image_are_together_and_one_draw_is_as_before(model):
    images = np.random.default_rng(0).integers(0, LEVELS, (8, *SHAPE)).astype(np.uint8)
    indices = torch.tensor([5, 2, 7])

    def draw(inputs, **options):
        return inputs.draw(indices, torch.Generator().manual_seed(0), **options)

    several = NoisyImages(images, model, draws=DRAWS)
    x, noise = draw(several)
    assert x.shape == (3, *SHAPE) and noise.shape == (3, DRAWS, 2, 4, 4)
    flat = model.draw_noise((9, *SHAPE), generator=torch.Generator().manual_seed(0))
    assert torch.equal(noise.flatten(0, 1), flat)
    for one in (draw(several, draws=1), draw(NoisyImages(images, model))):
        expected = model.draw_noise((3, *SHAPE), generator=torch.Generator().manual_seed(0))
        assert torch.equal(one[1], expected)


def test_the_number_of_draws_is_checked():
    with pytest.raises(ValueError, match=r"training.importance_samples must be at least 1, got 0"):
        replace(TINY.training, importance_samples=0)
