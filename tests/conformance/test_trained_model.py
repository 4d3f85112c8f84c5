"""A trained model converts to its reference twin, so that real checkpoints can be audited."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from conformance.adapters.flowpp import from_reference, to_reference
from conformance.numerics.specs import differences
from flowpp.config import ContextConfig, FlowConfig, ModelConfig
from flowpp.config.build import build_model
from flowpp.training.initialization import initialize

LEVELS, SHAPE, BATCH = 16, (1, 4, 4), 16
FLOW = FlowConfig(
    layout="columns 2, squeeze, channels 1, columns 1", filters=8, blocks=1, components=3, heads=2
)
CONFIG = ModelConfig(
    flow=FLOW,
    dequantizer=FlowConfig(
        layout="columns 2",
        filters=8,
        blocks=1,
        components=3,
        heads=2,
        weight_norm=True,
        convolution="lu",
        act_norm="channel",
    ),
    context=ContextConfig(filters=4, blocks=1),
)


@pytest.fixture(scope="module")
def trained():
    torch.manual_seed(0)
    model = build_model(CONFIG, image_shape=SHAPE, levels=LEVELS).double()
    # Smooth images, so that there is structure to learn.
    rows = torch.linspace(0, LEVELS - 1, 4, dtype=torch.float64)
    images = (rows[None, None, :, None] + 3 * torch.rand(BATCH, *SHAPE).double()).floor()
    images = images.clamp(0, LEVELS - 1)
    draw = model.dequantizer.draw_noise
    initialize(model, images, draw(images.shape, dtype=torch.float64))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(30):
        loss = -model.elbo(images, draw(images.shape, dtype=torch.float64)).total.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 1.0  # the weights have changed
    return model.eval(), images


def test_the_twin_of_a_trained_model_has_its_bound(trained):
    model, images = trained
    noise = model.dequantizer.draw_noise(images.shape, dtype=torch.float64)
    twin = to_reference(model)
    with torch.no_grad():
        got = model.elbo(images, noise)
    want = twin.elbo(images.numpy().astype(int), noise.numpy())
    for term in ("log_q", "log_det", "log_prior", "total"):
        np.testing.assert_allclose(
            getattr(got, term).numpy(), getattr(want, term), rtol=1e-9, atol=1e-9, err_msg=term
        )


def test_the_twin_of_the_twin_is_the_model(trained):
    model, _ = trained
    twin = to_reference(model)
    again = from_reference(twin)
    state = again.state_dict()
    assert list(state) == list(model.state_dict())
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, state[name]), name
    assert differences(to_reference(again), twin) == []
