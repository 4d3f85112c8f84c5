"""The bits of the pixels sum to the image's, and are booked where they arise."""

from __future__ import annotations

import math

import pytest
import torch

from flowpp.bijectors import (
    Chain,
    ChannelSplit,
    Coupling,
    DataLogit,
    FactorOut,
    FirstChannels,
    Inverse,
    InvertibleConv,
    Sigmoid,
    Squeeze,
)  # fmt: skip
from flowpp.config import ContextConfig, FlowConfig, ModelConfig
from flowpp.config.build import build_model
from flowpp.dequantization import Dequantizer, UniformDequantizer, VariationalDequantizer
from flowpp.elementwise import AffineFamily
from flowpp.evaluation.pixel_bits import pixel_bits
from flowpp.model import FlowPlusPlus


def image_bits(model, x, noise):
    return -model.elbo(x, noise).total.double() / math.log(2)


def perturbed(model):
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return model.eval()


SETTINGS = {
    "flow++": {"layout": "checkerboard 2, squeeze, channels 2, checkerboard 1"},
    "factors": {"layout": "squeeze, channels 1, factor, squeeze, channels 1"},
    "glow": {"layout": "squeeze, channels 2", "convolution": "joint", "coupling": "affine",
             "act_norm": "channel"},
    "lu": {"layout": "columns 1, squeeze, channels 1", "convolution": "lu"},
}  # fmt: skip


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("dequantization", ["uniform", "truncated-normal", "variational"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-9)])
def test_the_map_sums_to_the_bits_of_the_image(name, dequantization, dtype, tolerance):
    torch.manual_seed(0)
    size = {"filters": 4, "blocks": 1, "components": 2, "dropout": 0.0}
    config = ModelConfig(
        flow=FlowConfig(**SETTINGS[name], **size),
        dequantizer=FlowConfig(layout="checkerboard 1", **size),
        dequantization=dequantization,
        context=ContextConfig(filters=4, blocks=1),
    )
    model = perturbed(build_model(config, (4, 8, 12), 256)).to(dtype)
    x = torch.randint(0, 256, (3, 4, 8, 12))
    noise = model.dequantizer.draw_noise(x.shape, dtype=dtype)
    bits = pixel_bits(model, x, noise)
    assert bits.shape == (3, 8, 12) and bits.dtype == torch.float64
    torch.testing.assert_close(
        bits.sum((1, 2)), image_bits(model, x, noise), rtol=tolerance, atol=0
    )


def test_augmented_models_are_decomposed_too():
    torch.manual_seed(0)
    size = {"filters": 4, "blocks": 1, "components": 2, "dropout": 0.0}
    config = ModelConfig(
        flow=FlowConfig(layout="squeeze, channels 1", **size),
        dequantization="truncated-normal",
        context=ContextConfig(filters=4, blocks=1),
        augment=2,
    )
    model = perturbed(build_model(config, (3, 4, 8), 256)).double()
    x = torch.randint(0, 256, (2, 3, 4, 8))
    noise = model.draw_noise(x.shape, dtype=torch.float64)
    bits = pixel_bits(model, x, noise)
    torch.testing.assert_close(bits.sum((1, 2)), image_bits(model, x, noise), rtol=1e-9, atol=0)


def test_the_context_reaches_couplings_at_any_depth():
    def network(a, context):
        return torch.cat([0.3 * a + context[:, :1], 0.1 * context[:, 1:2].expand_as(a)], dim=1)

    coupling = Coupling(network, AffineFamily())
    middle = [FirstChannels(coupling, 2), FactorOut(coupling), Inverse(coupling)]
    flow = Chain([Squeeze(), *middle, Inverse(Squeeze()), Sigmoid()])
    dequantizer = VariationalDequantizer(256, Squeeze(), torch.nn.Identity(), flow)
    model = FlowPlusPlus(dequantizer, DataLogit(256))
    x = torch.randint(0, 256, (2, 1, 4, 6))
    noise = torch.randn(2, 1, 4, 6, dtype=torch.float64)
    bits = pixel_bits(model, x, noise)
    torch.testing.assert_close(bits.sum((1, 2)), image_bits(model, x, noise))


def test_the_logit_of_the_data_and_the_prior_are_booked_at_their_pixel():
    model = FlowPlusPlus(UniformDequantizer(256), DataLogit(256))
    x = torch.randint(0, 256, (1, 3, 2, 4))
    noise = torch.rand(1, 3, 2, 4, dtype=torch.float64)
    bits = pixel_bits(model, x, noise)
    for i, j in ((0, 0), (1, 3)):
        alone = x[..., i : i + 1, j : j + 1], noise[..., i : i + 1, j : j + 1]
        torch.testing.assert_close(bits[0, i, j], image_bits(model, *alone)[0])


def test_numbers_are_traced_through_squeezes_and_couplings():
    """With a network that ignores its input, changing a pixel changes its bits alone."""
    torch.manual_seed(0)

    def network(a, context):
        return torch.full((len(a), 2 * a.shape[1], *a.shape[2:]), 0.3, dtype=a.dtype)

    coupling = Coupling(network, AffineFamily())
    flow = Chain([DataLogit(256), Squeeze(), ChannelSplit(), coupling, Inverse(Squeeze())])
    model = FlowPlusPlus(UniformDequantizer(256), flow)
    x = torch.randint(1, 255, (1, 1, 4, 4))
    noise = torch.full((1, 1, 4, 4), 0.5, dtype=torch.float64)
    other = x.clone()
    other[0, 0, 2, 1] = 255 - other[0, 0, 2, 1] // 2
    changed = pixel_bits(model, x, noise) != pixel_bits(model, other, noise)
    assert changed.nonzero().tolist() == [[0, 2, 1]]


@pytest.mark.parametrize("count", [1, 2])
def test_a_matrix_and_an_unknown_dequantizer_are_shared_evenly(count):
    class Half(Dequantizer):
        def draw_noise(self, shape, **_):
            return torch.zeros(shape)

        def sample(self, x, noise):
            return noise + 0.5, torch.full((len(x),), 8.0, dtype=noise.dtype)

    conv = InvertibleConv(3 * torch.eye(2, dtype=torch.float64)[None])
    x = torch.zeros(count, 2, 2, 2)
    noise = torch.zeros(count, 2, 2, 2, dtype=torch.float64)
    model = FlowPlusPlus(Half(2), conv)
    bits = pixel_bits(model, x, noise)
    assert bits.unique().numel() == 1
    torch.testing.assert_close(bits.sum((1, 2)), image_bits(model, x, noise))
