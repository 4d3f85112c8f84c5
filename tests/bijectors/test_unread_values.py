"""Wrong values where none may be read: on a CUDA device in training, and in a traced graph."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from flowpp import augmentation, dequantization
from flowpp.bijectors import InvertibleConv, invertible_conv
from flowpp.bijectors.checks import may_read_values
from flowpp.config.build import build_model
from flowpp.kernels.backend import use_backend
from tiny import TINY


@pytest.fixture
def unreadable(monkeypatch):
    for module in (augmentation, dequantization, invertible_conv):
        monkeypatch.setattr(module, "may_read_values", lambda *_: False)


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("training", [True, False])
def test_values_are_read_on_the_cpu_only(device, training):
    layer = torch.nn.Identity().train(training)
    assert may_read_values(torch.zeros(1, device=device), layer) == (device == "cpu")


@pytest.mark.parametrize("wrong", [-1.0, 17.0, 0.5, torch.nan, torch.inf])
@pytest.mark.parametrize("preset", ["uniform", "truncated-normal", "variational"])
@pytest.mark.usefixtures("unreadable")
def test_an_image_that_is_not_one_has_no_bound(preset, wrong):
    """The bounds of the other images have the same bits."""
    model = build_model(
        dataclasses.replace(TINY.model, dequantization=preset), (1, 8, 8), levels=17
    ).eval()
    x, noise = torch.ones(3, 1, 8, 8), torch.full((3, 1, 8, 8), 0.25)
    bound = model.elbo(x, noise).total
    x[1, 0, 3, 4] = wrong
    found = model.elbo(x, noise).total
    assert found.isnan().tolist() == [False, True, False]
    assert torch.equal(found[::2], bound[::2])


@pytest.mark.parametrize("wrong", [-0.1, 1.0, torch.nan])
@pytest.mark.parametrize("preset", ["uniform", "truncated-normal"])
@pytest.mark.usefixtures("unreadable")
def test_noise_outside_of_the_unit_interval_has_no_bound(preset, wrong):
    model = build_model(
        dataclasses.replace(TINY.model, dequantization=preset), (1, 8, 8), levels=17
    )
    noise = torch.full((2, 1, 8, 8), 0.25)
    noise[0, 0, 0, 0] = wrong
    assert model.elbo(torch.ones_like(noise), noise).total.isnan().tolist() == [True, False]


@pytest.mark.parametrize("weight", [torch.zeros(1, 2, 2), torch.full((1, 2, 2), torch.nan)])
@pytest.mark.usefixtures("unreadable")
def test_the_log_det_of_a_singular_matrix_is_not_finite(weight):
    _, log_det = InvertibleConv(weight)(torch.ones(3, 2, 1, 1))
    assert not log_det.isfinite().any()
    with pytest.raises(ValueError, match="InvertibleConv needs"):
        InvertibleConv(weight).inverse(torch.ones(3, 2, 1, 1))


def test_a_compiled_model_has_no_bound_for_an_image_that_is_not_one():
    flow = dataclasses.replace(TINY.model.flow, coupling="affine")
    settings = dataclasses.replace(TINY.model, dequantization="uniform", flow=flow)
    model = build_model(settings, (1, 8, 8), levels=17).eval()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    x, noise = torch.ones(2, 1, 8, 8), torch.zeros(2, 1, 8, 8)
    with use_backend("torch"):
        # Compiled code sums in another order.
        torch.testing.assert_close(compiled(x, noise).total, model(x, noise).total)
        x[0, 0, 0, 0] = 17
        assert compiled(x, noise).total.isnan().tolist() == [True, False]
        with pytest.raises(ValueError, match="must be integers 0 ... 16, got 17"):
            model(x, noise)
