"""3x3 convolutions with fewer products: as exact as torch's, and the same bits each time."""

from __future__ import annotations

import sys

import pytest
import torch
from torch.nn.functional import conv2d

from flowpp.conditioner import Conv2d
from flowpp.kernels import convolution
from flowpp.kernels.backend import use_backend
from flowpp.kernels.cpu import build

pytestmark = pytest.mark.skipif(
    not build.is_available("convolution.cpp"), reason="no C++ compiler here"
)
SHAPES = [
    (2, 64, 32, 16, 8),
    (1, 37, 50, 10, 14),  # channels and widths that no vector divides
    (3, 33, 48, 8, 8),
    (1, 32, 32, 32, 64),  # an image of as many tiles as are worked on at once
    (5, 32, 40, 16, 32),  # images in groups, the last one smaller
    (2, 250, 35, 8, 8),  # sums in two goes
]
FACTOR = 3
"""By which the error may exceed that of torch's convolution, both beside float64."""


def drawn(batch, channels, out, height, width):
    torch.manual_seed(0)
    x = torch.randn(batch, channels, height, width)
    weight, bias = 0.05 * torch.randn(out, channels, 3, 3), torch.randn(out)
    return [t.requires_grad_() for t in (x, weight, bias)]


def values(function, inputs, grad):
    y = function(*inputs)
    return [y.detach(), *torch.autograd.grad(y, inputs, grad.to(y.dtype))]


def direct(x, weight, bias):
    return conv2d(x, weight, bias, padding=1)


def assert_taken(y):
    assert "Winograd" in type(y.grad_fn).__name__


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("threads", [1, 3])
def test_values_and_gradients_are_as_exact_as_torchs(shape, threads):
    inputs = drawn(*shape)
    grad = torch.randn(shape[0], shape[2], *shape[3:])
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        got = values(convolution.convolution, inputs, grad)
        assert_taken(convolution.convolution(*inputs))
    finally:
        torch.set_num_threads(before)
    plain = values(direct, inputs, grad)
    truth = values(direct, [t.detach().double().requires_grad_() for t in inputs], grad)
    for mine, torchs, exact in zip(got, plain, truth, strict=True):
        least = 2.0**-24 * exact.square().mean().sqrt()
        errors = [(t - exact).square().mean().sqrt() for t in (mine, torchs)]
        assert errors[0] <= FACTOR * torch.maximum(errors[1], least)


def test_the_same_bits_for_any_number_of_threads_and_each_time():
    inputs = drawn(3, 48, 40, 8, 16)
    grad = torch.randn(3, 40, 8, 16)
    found = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 1, 2, 5):
            torch.set_num_threads(threads)
            found.append(values(convolution.convolution, inputs, grad))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            assert torch.equal(one, two)


def test_tensors_that_are_not_dense():
    x, weight, bias = drawn(2, 32, 34, 8, 12)
    grad = torch.randn(2, 34, 12, 8).mT
    strided = [
        x.detach().mT.contiguous().mT.requires_grad_(),
        weight.detach().movedim(0, -1).contiguous().movedim(-1, 0).requires_grad_(),
        bias.detach().repeat_interleave(2)[::2].requires_grad_(),
    ]
    got = values(convolution.convolution, strided, grad)
    for one, two in zip(got, values(direct, [x, weight, bias], grad), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (0, 2)])
def test_gradients_of_some_inputs_alone(wanted):
    inputs = drawn(1, 32, 32, 8, 8)
    everything = values(direct, inputs, torch.ones(1, 32, 8, 8))[1:]
    some = [t.detach().requires_grad_(i in wanted) for i, t in enumerate(inputs)]
    convolution.convolution(*some).sum().backward()
    for i, (tensor, expected) in enumerate(zip(some, everything, strict=True)):
        if i in wanted:
            torch.testing.assert_close(tensor.grad, expected, rtol=1e-4, atol=1e-4)
        else:
            assert tensor.grad is None


def test_second_derivatives_are_torchs():
    inputs = drawn(1, 32, 32, 4, 16)
    found = []
    for function in (convolution.convolution, direct):
        first = torch.autograd.grad(function(*inputs).square().sum(), inputs, create_graph=True)
        found.append(torch.autograd.grad(sum(g.square().sum() for g in first), inputs))
    for got, wanted in zip(*found, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-3 * wanted.abs().max().item())


@pytest.mark.parametrize(
    ("x", "weight"),
    [
        (torch.zeros(1, 32, 7, 8), torch.zeros(32, 32, 3, 3)),
        (torch.zeros(1, 32, 8, 7), torch.zeros(32, 32, 3, 3)),
        (torch.zeros(1, 3, 8, 8), torch.zeros(32, 3, 3, 3)),
        (torch.zeros(0, 32, 8, 8), torch.zeros(32, 32, 3, 3)),
        (torch.zeros(1, 32, 8, 8), torch.zeros(32, 32, 5, 5)),
        (torch.zeros(1, 32, 8, 8), torch.zeros(32, 32, 1, 1)),
        (torch.zeros(1, 32, 8, 8).double(), torch.zeros(32, 32, 3, 3).double()),
    ],
)
def test_others_are_torchs(x, weight):
    bias = torch.zeros(32, dtype=x.dtype).requires_grad_()
    assert "Winograd" not in type(convolution.convolution(x, weight, bias).grad_fn).__name__


def test_the_layer_takes_it_and_backends_agree():
    torch.manual_seed(0)
    layer = Conv2d.create(64, 32, 3, weight_norm=True)
    x = torch.randn(2, 64, 8, 8)
    y = layer(x)
    assert_taken(y)
    with use_backend("torch"):
        torch.testing.assert_close(y, layer(x), rtol=1e-5, atol=1e-5)


def test_what_is_not_finite_shows():
    x, weight, bias = drawn(1, 32, 32, 8, 8)
    with torch.no_grad():
        x[0, 3, 4, 4] = torch.nan
        y = convolution.convolution(x, weight, bias)
    assert y[..., 3:6, 3:6].isnan().all()
    assert y[..., :2, :].isfinite().all()


def test_under_torch_compile_and_autocast_it_is_torchs():
    layer = Conv2d.create(32, 32, 3)
    x = torch.randn(1, 32, 8, 8)
    compiled = torch.compile(layer, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), layer(x), rtol=1e-5, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype is torch.bfloat16


@pytest.mark.parametrize("shape", [(2, 5, 7, 3, 4), (1, 64, 33, 8, 8), (0, 4, 4, 2, 2)])
def test_one_by_one_is_a_matrix_product(shape):
    batch, channels, out, *size = shape
    torch.manual_seed(0)
    x = torch.randn(batch, channels, *reversed(size)).mT.requires_grad_()
    weight, bias = torch.randn(out, channels, 1, 1), torch.randn(out)
    inputs = [x, weight.requires_grad_(), bias.requires_grad_()]
    grad = torch.randn(batch, out, *size)
    got = values(convolution.convolution, inputs, grad)
    wanted = values(lambda *t: conv2d(*t), inputs, grad)
    for mine, torchs in zip(got, wanted, strict=True):
        torch.testing.assert_close(mine, torchs, rtol=1e-5, atol=1e-4)


def test_threads_are_torchs_own():
    """Threads of our own would share the processors with torch's spinning ones."""
    assert build.torch_pool() is not None or sys.platform != "linux"


def test_a_second_derivative_finds_strided_arguments():
    torch.manual_seed(0)
    x = torch.randn(2, 32, 8, 8).mT.requires_grad_()
    weight = (0.05 * torch.randn(32, 32, 3, 3)).mT.requires_grad_()
    bias = torch.zeros(32).requires_grad_()

    def second(function):
        y = function(x, weight, bias)
        first = torch.autograd.grad((y**3).sum(), (x, weight), create_graph=True)
        return torch.autograd.grad(sum((g**2).sum() for g in first), (x, weight))

    for mine, torchs in zip(second(convolution.convolution), second(direct), strict=True):
        assert (mine - torchs).norm() <= 1e-4 * torchs.norm()
