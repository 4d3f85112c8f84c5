"""Noise of the dequantizers: shape, dtype, generator and rounding."""

from __future__ import annotations

import pytest
import torch
from torch.nn import Identity

from flowpp.bijectors import Chain, ChannelSplit, Sigmoid
from flowpp.dequantization import UniformDequantizer, VariationalDequantizer
from flowpp.model import FlowPlusPlus

CPU = torch.device("cpu")
KINDS = {
    "uniform": UniformDequantizer(4),
    "variational": VariationalDequantizer(4, ChannelSplit(), Identity(), Chain([Sigmoid()])),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_noise_is_drawn_from_the_generator(kind, dtype):
    def draw():
        generator = torch.Generator().manual_seed(3)
        return KINDS[kind].draw_noise((2, 1, 3, 4), dtype=dtype, device=CPU, generator=generator)

    noise = draw()
    assert noise.shape == (2, 1, 3, 4) and noise.dtype == dtype
    assert torch.equal(noise, draw())


@pytest.mark.parametrize("kind", KINDS)
def test_noise_in_a_narrower_dtype(kind):
    noise = torch.tensor([0.25, 1 - 2.0**-40], dtype=torch.float64)
    rounded = KINDS[kind].round_noise(noise, torch.float32)
    assert rounded.dtype == torch.float32 and rounded[0] == 0.25
    below = torch.nextafter(torch.tensor(1.0), torch.tensor(0.0))
    assert rounded[1] == (below if kind == "uniform" else 1.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_bound_has_the_noises_dtype(dtype):
    x = torch.zeros(2, 1, 2, 2, dtype=torch.uint8)
    u = torch.full(x.shape, 0.5, dtype=dtype)
    dequantizer = UniformDequantizer(4)
    assert dequantizer.log_prob(x, u).dtype == dtype
    model = FlowPlusPlus(dequantizer, Chain([Sigmoid()]))
    assert model.elbo(x, u).total.dtype == dtype
