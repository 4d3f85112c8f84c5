"""Convolutions by the CPU kernels: as accurate as torch's, and deterministic."""

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
    (1, 37, 50, 10, 14),  # channels and widths that are no multiples of a vector
    (3, 33, 48, 8, 8),
    (1, 32, 32, 32, 64),  # one image fills a pass over the data
    (5, 32, 40, 16, 32),  # several images per pass, fewer in the last
    (2, 250, 35, 8, 8),  # channels summed in two parts
]
FACTOR = 3
"""Largest ratio of the error to that of torch's convolution, both against float64."""


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


def assert_winograd(y):
    assert "Winograd" in type(y.grad_fn).__name__


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("threads", [1, 3])
def test_values_and_gradients_are_as_accurate_as_torchs(shape, threads):
    inputs = drawn(*shape)
    grad = torch.randn(shape[0], shape[2], *shape[3:])
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        got = values(convolution.convolution, inputs, grad)
        assert_winograd(convolution.convolution(*inputs))
    finally:
        torch.set_num_threads(before)
    plain = values(direct, inputs, grad)
    truth = values(direct, [t.detach().double().requires_grad_() for t in inputs], grad)
    for ours, torchs, exact in zip(got, plain, truth, strict=True):
        smallest = 2.0**-24 * exact.square().mean().sqrt()
        errors = [(t - exact).square().mean().sqrt() for t in (ours, torchs)]
        assert errors[0] <= FACTOR * torch.maximum(errors[1], smallest)


def test_bits_do_not_depend_on_threads_or_repetition():
    inputs = drawn(3, 48, 40, 8, 16)
    grad = torch.randn(3, 40, 8, 16)
    results = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 1, 2, 5):
            torch.set_num_threads(threads)
            results.append(values(convolution.convolution, inputs, grad))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            assert torch.equal(one, two)


def test_strided_tensors():
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


@pytest.mark.parametrize("differentiated", [(0,), (1,), (2,), (0, 2)])
def test_gradients_of_some_inputs(differentiated):
    inputs = drawn(1, 32, 32, 8, 8)
    everything = values(direct, inputs, torch.ones(1, 32, 8, 8))[1:]
    some = [t.detach().requires_grad_(i in differentiated) for i, t in enumerate(inputs)]
    convolution.convolution(*some).sum().backward()
    for i, (tensor, expected) in enumerate(zip(some, everything, strict=True)):
        if i in differentiated:
            torch.testing.assert_close(tensor.grad, expected, rtol=1e-4, atol=1e-4)
        else:
            assert tensor.grad is None


def test_second_derivatives():
    inputs = drawn(1, 32, 32, 4, 16)
    results = []
    for function in (convolution.convolution, direct):
        first = torch.autograd.grad(function(*inputs).square().sum(), inputs, create_graph=True)
        results.append(torch.autograd.grad(sum(g.square().sum() for g in first), inputs))
    for got, expected in zip(*results, strict=True):
        torch.testing.assert_close(
            got, expected, rtol=1e-3, atol=1e-3 * expected.abs().max().item()
        )


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
def test_other_shapes_and_dtypes_are_computed_by_torch(x, weight):
    bias = torch.zeros(32, dtype=x.dtype).requires_grad_()
    assert "Winograd" not in type(convolution.convolution(x, weight, bias).grad_fn).__name__


def test_a_layer_uses_the_kernel_and_backends_agree():
    torch.manual_seed(0)
    layer = Conv2d.create(64, 32, 3, weight_norm=True)
    x = torch.randn(2, 64, 8, 8)
    y = layer(x)
    assert_winograd(y)
    with use_backend("torch"):
        torch.testing.assert_close(y, layer(x), rtol=1e-5, atol=1e-5)


def test_nan_reaches_its_neighbours_only():
    x, weight, bias = drawn(1, 32, 32, 8, 8)
    with torch.no_grad():
        x[0, 3, 4, 4] = torch.nan
        y = convolution.convolution(x, weight, bias)
    assert y[..., 3:6, 3:6].isnan().all()
    assert y[..., :2, :].isfinite().all()


def test_torch_computes_under_torch_compile_and_autocast():
    layer = Conv2d.create(32, 32, 3)
    x = torch.randn(1, 32, 8, 8)
    compiled = torch.compile(layer, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), layer(x), rtol=1e-5, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype is torch.bfloat16


@pytest.mark.parametrize("shape", [(2, 5, 7, 3, 4), (1, 64, 33, 8, 8), (0, 4, 4, 2, 2)])
def test_pointwise_convolution(shape):
    batch, channels, out, *size = shape
    torch.manual_seed(0)
    x = torch.randn(batch, channels, *reversed(size)).mT.requires_grad_()
    weight, bias = torch.randn(out, channels, 1, 1), torch.randn(out)
    inputs = [x, weight.requires_grad_(), bias.requires_grad_()]
    grad = torch.randn(batch, out, *size)
    got = values(convolution.convolution, inputs, grad)
    expected = values(lambda *t: conv2d(*t), inputs, grad)
    for ours, torchs in zip(got, expected, strict=True):
        torch.testing.assert_close(ours, torchs, rtol=1e-5, atol=1e-4)


def test_the_thread_pool_of_torch_is_found():
    """Other threads would compete with torch's, which spin while they wait for work."""
    assert build.torch_pool() is not None or sys.platform != "linux"


def test_second_derivatives_by_strided_arguments():
    torch.manual_seed(0)
    x = torch.randn(2, 32, 8, 8).mT.requires_grad_()
    weight = (0.05 * torch.randn(32, 32, 3, 3)).mT.requires_grad_()
    bias = torch.zeros(32).requires_grad_()

    def second(function):
        y = function(x, weight, bias)
        first = torch.autograd.grad((y**3).sum(), (x, weight), create_graph=True)
        return torch.autograd.grad(sum((g**2).sum() for g in first), (x, weight))

    for ours, torchs in zip(second(convolution.convolution), second(direct), strict=True):
        assert (ours - torchs).norm() <= 1e-4 * torchs.norm()


@pytest.mark.parametrize("out", [1, 7, 9, 294])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_further_channels_change_nothing(out, layout):
    """As on CUDA devices, where cuDNN's half precision needs multiples of 8."""
    torch.manual_seed(0)
    double = {"dtype": torch.float64, "requires_grad": True}
    x = torch.randn(2, 3, 4, 6, dtype=torch.float64).contiguous(memory_format=layout)
    inputs = x.requires_grad_(), torch.randn(out, 3, 3, 3, **double), torch.randn(out, **double)
    expected = convolution._plain(*inputs)
    got = convolution._with_more_channels(*inputs)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
    assert got.is_contiguous(memory_format=layout)
    seen = []
    grad = torch.randn_like(got)
    got.grad_fn.register_hook(lambda by_inputs, _: seen.append(by_inputs[0]))
    pairs = (torch.autograd.grad(y, inputs, grad) for y in (got, expected))
    for one, other in zip(*pairs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    assert seen[0].shape[1] % 8 == 0
    assert seen[0].is_contiguous(memory_format=layout)


def test_further_channels_have_second_derivatives():
    torch.manual_seed(0)
    double = {"dtype": torch.float64, "requires_grad": True}
    inputs = (
        torch.randn(1, 2, 3, 4, **double),
        torch.randn(3, 2, 3, 3, **double),
        torch.randn(3, **double),
    )
    assert torch.autograd.gradgradcheck(convolution._with_more_channels, inputs)
