"""A coupling that recomputes its map in the backward pass gives the same values."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from flowpp import bijectors as b
from flowpp.elementwise import AffineFamily


class Network(nn.Module):
    """Network (a, context) -> raw parameters that counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.7))
        self.calls = 0

    def forward(self, a, context):
        self.calls += 1
        return torch.cat([self.weight * a, a + context], 1)


def run(*, recompute, gradients=True):
    torch.manual_seed(0)
    network = Network()
    coupling = b.Coupling(network, AffineFamily())
    coupling.recompute = recompute
    x, context = torch.randn(2, 4, 3, 3, requires_grad=gradients), torch.randn(2, 2, 3, 3)
    with torch.set_grad_enabled(gradients):
        y, log_det = coupling(x, context)
    if not gradients:
        return network.calls, [y, log_det]
    calls = network.calls
    by = torch.autograd.grad(y.sin().sum() + log_det.sum(), [x, network.weight])
    return (calls, network.calls), [y, log_det, *by]


@pytest.mark.filterwarnings("error")
def test_the_same_bits_from_two_calls_of_the_network():
    once, kept = run(recompute=False)
    twice, again = run(recompute=True)
    assert once == (1, 1) and twice == (1, 2)
    for got, want in zip(again, kept, strict=True):
        assert torch.equal(got, want)


def test_nothing_is_recomputed_without_gradients():
    assert run(recompute=True, gradients=False)[0] == 1


def test_inverse_passes_the_context_on():
    torch.manual_seed(0)
    coupling = b.Coupling(Network(), AffineFamily())
    x, context = torch.randn(2, 4, 3, 3), torch.randn(2, 2, 3, 3)
    for got, want in zip(
        b.Inverse(coupling).inverse(x, context), coupling(x, context), strict=True
    ):
        assert torch.equal(got, want)


@pytest.mark.parametrize("kind", [b.InvertibleConv, b.InvertibleConvLU])
def test_a_convolution_keeps_float32(kind):
    convolution = kind.create(4)
    for direction in (convolution, convolution.inverse):
        assert [t.dtype for t in direction(torch.randn(2, 4, 3, 3))] == [torch.float32] * 2
