"""Data-dependent initialization of flowpp's bijectors."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from conformance.adapters.flowpp import to_reference
from flowpp.bijectors import ActNorm, Chain, Coupling, Flip, InvertibleConv, InvertibleConvLU
from flowpp.config.build import build_model
from flowpp.training.initialization import initialize
from tiny import TINY


class Fitted(Flip):
    """A bijector that counts its initializations and keeps the last batch."""

    count = 0

    def initialize(self, x):
        self.count += 1
        self.batch = x


def test_every_bijector_with_the_method_is_initialized_from_its_input():
    fitted = Fitted()
    x = 3 * torch.randn(64, 2, 2, 2, generator=torch.Generator().manual_seed(0)) + 1
    y, _ = initialize(Chain([ActNorm.create(2), fitted]), x)
    assert fitted.count == 1
    torch.testing.assert_close(fitted.batch.mean((0, 2, 3)), torch.zeros(2), atol=1e-5, rtol=0)
    assert torch.equal(y, Flip()(fitted.batch)[0])


def built(**changes):
    flows = {
        name: dataclasses.replace(getattr(TINY.model, name), dropout=0.0, **changes)
        for name in ("flow", "dequantizer")
    }
    config = dataclasses.replace(TINY.model, **flows)
    return build_model(config, (1, 8, 8), 17, torch.Generator().manual_seed(0)).double()


def layers(model, *kinds):
    return [layer for layer in model.modules() if isinstance(layer, kinds)]


@pytest.mark.parametrize("convolution", ["halves", "joint", "lu"])
def test_the_settings_reach_each_layer(convolution):
    model = built(convolution=convolution, whiten=True, spread=True)
    generator = torch.Generator().manual_seed(1)
    x = torch.randint(17, (64, 1, 8, 8), generator=generator).double()
    noise = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    outputs = {}
    initialize(model.eval(), x, noise)
    for layer in layers(model, InvertibleConv, InvertibleConvLU):
        layer.register_forward_hook(lambda m, _, output: outputs.update({m: output[0]}))
    couplings = layers(model, Coupling)
    for coupling in couplings:
        last = coupling.conditioner.proj_out
        last.register_forward_hook(lambda m, _, output: outputs.update({m: output}))
    model.elbo(x, noise)
    assert len(outputs) == 2 * len(couplings) == 6
    for layer, output in outputs.items():
        columns = output.detach().transpose(0, 1).flatten(1)
        if isinstance(layer, InvertibleConv | InvertibleConvLU):
            groups = 2 if convolution == "halves" else 1
            for group in columns.chunk(groups):
                centred = group - group.mean(1, keepdim=True)
                covariance = centred @ centred.mT / centred.shape[1]
                identity = torch.eye(len(group), dtype=torch.float64)
                torch.testing.assert_close(covariance, identity)
    for coupling in couplings:
        family, last = coupling.family, coupling.conditioner.proj_out
        expected = family.spread().repeat(len(last.bias) // family.parameters_per_scalar)
        mean = outputs[last].detach().mean((0, 2, 3))
        torch.testing.assert_close(mean, expected, rtol=0, atol=1e-10)


def test_a_model_with_the_settings_has_a_twin_that_initializes_alike():
    model = built(convolution="lu", whiten=True, spread=True)
    twin = to_reference(model.eval())
    generator = torch.Generator().manual_seed(1)
    x = torch.randint(17, (8, 1, 8, 8), generator=generator).double()
    noise = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    bound = initialize(model, x, noise).total.detach()
    fitted, _ = twin.initialize(x.numpy().astype(int), noise.numpy())
    expected = fitted.elbo(x.numpy().astype(int), noise.numpy()).total
    torch.testing.assert_close(bound, torch.from_numpy(expected), rtol=1e-9, atol=0)


def test_a_batch_that_is_not_finite_is_not_whitened():
    x = torch.randn(4, 2, 2, 2)
    x[1, 0, 0, 0] = torch.nan
    for convolution in (InvertibleConv, InvertibleConvLU):
        with pytest.raises(ValueError, match="whitening needs finite inputs, got 1 that are not"):
            initialize(convolution.create(2, whiten=True), x)
