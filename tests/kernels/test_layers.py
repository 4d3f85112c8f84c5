"""Compiled layers of conditioners: equal to torch's, twice differentiable, unbiased dropout."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import elu, glu

from flowpp.conditioner import Block, Conditioner, Conv2d, GatedAttention, GatedConv, LayerNorm
from flowpp.conditioner.layer_norm import LAYER_NORM_EPSILON
from flowpp.kernels import layers
from flowpp.kernels.attention import attention
from flowpp.kernels.backend import backend_for, use_backend
from flowpp.kernels.cpu import build

pytestmark = pytest.mark.skipif(
    not build.is_available("layers.cpp"), reason="no C++ compiler here"
)
SHAPES = [(2, 6, 5, 3), (1, 12, 16, 17), (3, 6, 1, 1), (0, 6, 4, 4)]


def plain_norm(x, gain, bias):
    norm = LayerNorm(gain.detach(), bias.detach())
    del norm.gain, norm.bias
    norm.gain, norm.bias = gain, bias
    return norm(x)


FUNCTIONS = {
    "concat_elu": (layers.concat_elu, lambda x: elu(torch.cat([x, -x], 1)), (1,)),
    "gated_sum": (layers.gated_sum, lambda x, gates: x + glu(gates, 1), (1, 2)),
    "attention": (lambda x: attention(x, 2), lambda x: attention(x, 2), (1,)),
}


def inputs_for(shape, multiples):
    torch.manual_seed(0)
    batch, channels, *rest = shape
    return [(3 * torch.randn(batch, m * channels, *rest)).requires_grad_() for m in multiples]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_and_gradients_equal_torchs(name, shape, threads):
    compiled, plain, multiples = FUNCTIONS[name]
    inputs = inputs_for(shape, multiples)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        compare(compiled, plain, inputs)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("shape", SHAPES)
def test_layer_norm(shape):
    (x,) = inputs_for(shape, (1,))
    gain, bias = torch.randn(2, shape[1]).unbind()
    inputs = [x, gain.requires_grad_(), bias.requires_grad_()]
    compare(lambda *a: layers.layer_norm(*a, LAYER_NORM_EPSILON), plain_norm, inputs)


@pytest.mark.parametrize("size", [1e15, 3e18, 1e19, 1e25, 3e37])
@pytest.mark.parametrize("mean", [0.0, 3.0])
def test_layer_norm_whose_variance_overflows(size, mean):
    """The compiled form is accurate; torch's operations never give a wrong 0."""
    torch.manual_seed(0)
    x = size * (torch.randn(2, 6, 5, 31).clamp(-3, 3) + mean)
    x[:, :, 2] = torch.randn(2, 6, 31)  # beside others of ordinary size
    inputs = [t.requires_grad_() for t in (x, torch.randn(6), torch.randn(6))]
    exact = [t.detach().double().requires_grad_() for t in inputs]
    weights = torch.randn(x.shape)
    results = []
    for arguments in (inputs, exact):
        y = layers.layer_norm(*arguments, 1e-6)
        by_x, *others = torch.autograd.grad((weights * y).sum(), arguments)
        ordinary, large = by_x[:, :, 2], by_x * (torch.arange(5) != 2)[:, None]
        results.append([y, ordinary, large * size, *others])
    for got, expected in zip(*results, strict=True):
        unit = 1e-5 * expected.abs().max().item()
        torch.testing.assert_close(got.double(), expected, rtol=0, atol=unit)
    expected = results[1][0].float()
    with use_backend("torch"):
        plain = layers.layer_norm(*inputs, 1e-6)
        is_nan = plain.isnan()
        torch.testing.assert_close(plain[~is_nan], expected[~is_nan], rtol=1e-4, atol=1e-4)
    compiled = torch.compile(layers.layer_norm, backend="eager")(*inputs, 1e-6)
    is_nan = compiled.isnan()
    torch.testing.assert_close(compiled[~is_nan], expected[~is_nan], rtol=1e-4, atol=1e-4)


def compare(compiled, plain, inputs):
    got = compiled(*inputs)
    with use_backend("torch"):
        expected = plain(*inputs)
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
        weights = torch.randn(expected.shape)
        expected = torch.autograd.grad((weights * expected).sum(), inputs)
    for one, other in zip(
        torch.autograd.grad((weights * got).sum(), inputs), expected, strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_elu_is_within_two_ulps_everywhere():
    x = -torch.logspace(-30, 4, 100_000, dtype=torch.float64).float().reshape(1, 1, 1, -1)
    got = layers.concat_elu(x)[:, 0].double()
    expected = torch.expm1(x.double())[:, 0]
    assert ((got - expected).abs() <= 2 * 2.0**-23 * expected.abs()).all()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 0.0, -0.0])
def test_special_values(value):
    x = torch.full((1, 2, 1, 3), value)
    expected = elu(torch.cat([x, -x], 1))
    torch.testing.assert_close(layers.concat_elu(x), expected, equal_nan=True)
    gates = torch.full((1, 4, 1, 3), value)
    with use_backend("torch"):
        expected = layers.gated_sum(x, gates)
    torch.testing.assert_close(layers.gated_sum(x, gates), expected, equal_nan=True)


@pytest.mark.parametrize(
    ("name", "rate"), [("dropout", 0.99), ("concat_elu_dropout", 0.99), ("dropout", 0.999999)]
)
def test_a_high_dropout_rate_keeps_the_mean(name, rate):
    torch.manual_seed(0)
    x = torch.ones(1, 1, 2000, 2000)
    y = getattr(layers, name)(x, rate, training=True)[:, :1]
    spread = math.sqrt(rate / (1 - rate) / x.numel())
    assert (y != 0).any() and abs(y.double().mean().item() - 1) < 5 * spread


@pytest.mark.parametrize("function", [layers.dropout, layers.concat_elu_dropout])
def test_dropout_has_its_rate_and_keeps_the_mean(function):
    torch.manual_seed(0)
    x = torch.ones(1, 1, 1000, 1000)
    y = function(x, 0.2, training=True)[:, :1]
    p = round(0.2 * 65536) / 65536
    assert set(y.unique().tolist()) == {0.0, torch.tensor(1 / (1 - p)).item()}
    assert abs((y == 0).double().mean().item() - p) < 4 * math.sqrt(p * (1 - p) / x.numel())


def test_dropout_bits_are_uniform_and_uncorrelated():
    torch.manual_seed(0)
    bits = (layers.random_bits(1 << 20).int() & 0xFFFF).double() / 65535 - 0.5
    assert abs(bits.mean()) < 4 * math.sqrt(1 / 12 / len(bits))
    for shift in (1, 2, 3, 4, 8):  # four numbers are parts of one draw
        correlation = (bits[shift:] * bits[:-shift]).mean() * 12
        assert abs(correlation) < 4 / math.sqrt(len(bits))


@pytest.mark.parametrize("name", ["dropout", "concat_elu_dropout"])
def test_the_backward_pass_uses_the_mask_of_the_forward_pass(name):
    x = torch.randn(2, 4, 5, 3).abs().add(0.1).requires_grad_()  # where elu is the identity
    y = getattr(layers, name)(x, 0.4, training=True)[:, :4]
    (grad,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(grad, (y / x).detach())


def test_second_derivatives():
    torch.manual_seed(0)
    block = Block(
        GatedConv.create(4, dropout=0.0),
        LayerNorm.create(4),
        GatedAttention.create(4, 2),
        LayerNorm.create(4),
    )
    network = Conditioner(Conv2d.create(2, 4, 3), [block], Conv2d.create(4, 3, 3))
    x = torch.randn(2, 2, 3, 4).requires_grad_()
    results = {}
    for backend in ("torch", "cpu"):
        with (
            use_backend(backend),
            torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH),
        ):
            (first,) = torch.autograd.grad(network(x).square().sum(), x, create_graph=True)
            results[backend] = torch.autograd.grad(
                first.square().sum(), [x, *network.parameters()], allow_unused=True
            )
    for got, expected in zip(results["cpu"], results["torch"], strict=True):
        if expected is None:
            assert got is None
        else:
            torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4)


def test_a_second_derivative_with_a_constant_argument():
    x, gates = torch.randn(1, 2, 3, 3).requires_grad_(), torch.randn(1, 4, 3, 3)
    (first,) = torch.autograd.grad(layers.gated_sum(x, gates).square().sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    torch.testing.assert_close(second, torch.full_like(x, 2))


@pytest.mark.parametrize(
    ("depth", "heads", "height", "width"),
    [(24, 4, 8, 16), (24, 1, 5, 15), (5, 3, 4, 4), (32, 2, 7, 11)],
)
def test_attention_of_heads_of_any_size(depth, heads, height, width):
    torch.manual_seed(0)
    x = torch.randn(2, 3 * heads * depth, height, width).requires_grad_()
    grad = torch.randn(2, heads * depth, height, width)
    y = attention(x, heads)
    exact = x.detach().double().requires_grad_()
    expected = attention(exact, heads)
    torch.testing.assert_close(y.double(), expected, rtol=1e-5, atol=1e-5)
    (got,) = torch.autograd.grad(y, x, grad)
    (expected,) = torch.autograd.grad(expected, exact, grad.double())
    torch.testing.assert_close(got.double(), expected, rtol=1e-5, atol=1e-5)


def test_attention_has_the_same_bits_for_any_number_of_threads():
    x = torch.randn(2, 3 * 48, 8, 8).requires_grad_()
    results = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            y = attention(x, 2)
            results.append((y, *torch.autograd.grad(y.square().sum(), x)))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(one, two) for one, two in zip(results[0], other, strict=True))


def test_attention_scores_far_apart_or_not_finite():
    x = torch.randn(1, 3 * 8, 4, 8)
    y = attention(1e4 * x, 1)
    assert y.isfinite().all()
    x[0, 0, 0, 0] = torch.nan  # one query
    y = attention(x, 1).flatten(2)
    assert y[..., 0].isnan().all() and y[..., 1:].isfinite().all()


def test_layer_kernels_compute_plain_float32_on_the_cpu_alone():
    def backend(tensor):
        return backend_for(tensor, kernel="layers")

    x = torch.randn(1, 2, 3, 3)
    assert backend(x) == "cpu"
    assert backend_for(x, x.double(), kernel="layers") == "torch"
    for other in (x.double(), x.bfloat16(), x.to("meta")):
        assert backend(other) == "torch"
    with torch.autocast("cpu", torch.bfloat16):
        assert backend(x) == "torch"
    with use_backend("torch"):
        assert backend(x) == "torch"
