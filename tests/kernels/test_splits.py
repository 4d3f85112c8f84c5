"""The division of work among threads, lanes and passes: no part is lost where sizes do not divide.

Each kernel is compared with the same operation in float64, whose path has no such divisions.
"""

from __future__ import annotations

import pytest
import torch

from flowpp.kernels import layers
from flowpp.kernels.attention import attention
from flowpp.kernels.backend import use_backend
from flowpp.kernels.convolution import convolution
from flowpp.kernels.cpu import build
from flowpp.kernels.mixture_logistic import (
    logit_cdf,
    packed_inverse_logit_cdf,
    packed_logit_cdf,
)

pytestmark = pytest.mark.skipif(
    not build.is_available("layers.cpp"), reason="no C++ compiler here"
)
THREADS = [1, 2, 3, 6]
FLOOR = -1.5


@pytest.fixture(params=THREADS, autouse=True)
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def drawn(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def image_sizes(*channels):
    """Return images of every number of channels, in sizes that divide by no number of threads."""
    sizes = [(1, 1, 1), (1, 8, 8), (2, 7, 19), (1, 37, 41), (5, 8, 8), (7, 16, 9)]
    return [(batch, c, height, width) for c in channels for batch, height, width in sizes]


def check(function, inputs, tolerance=2e-5, name=""):
    """Compare values and gradients with those in float64, relative to the largest of each."""
    results = []
    for dtype in (torch.float32, torch.float64):
        leaves = [t.to(dtype).requires_grad_() for t in inputs]
        with use_backend("auto" if dtype is torch.float32 else "torch"):
            outputs = function(*leaves)
            outputs = outputs if isinstance(outputs, tuple) else (outputs,)
            total = sum((drawn(*y.shape).to(dtype) * y).sum() for y in outputs)
            results.append([*outputs, *torch.autograd.grad(total, leaves)])
    for index, (got, expected) in enumerate(zip(*results, strict=True)):
        allowed = tolerance * (1 + expected.abs().max().item() if expected.numel() else 1)
        torch.testing.assert_close(
            got.double(), expected, rtol=0, atol=allowed, msg=lambda m, i=index: f"{name} {i}: {m}"
        )


@pytest.mark.parametrize("filters", [33, 64])
def test_winograd(filters):
    sizes = [(1, 8, 8), (5, 8, 8), (3, 6, 22), (9, 16, 14), (1, 50, 46), (1, 2, 1044)]
    for batch, height, width in sizes:
        x = drawn(batch, 40, height, width)
        y = convolution(x.requires_grad_(), drawn(filters, 40, 3, 3), drawn(filters))
        assert "Winograd" in type(y.grad_fn).__name__
        weight = 0.1 * drawn(filters, 40, 3, 3)
        check(convolution, [x.detach(), weight, drawn(filters)], name=str(x.shape))


@pytest.mark.parametrize("depth", [1, 7, 24])
def test_attention(depth):
    for batch, heads, height, width in [(1, 1, 1, 1), (1, 3, 7, 5), (5, 1, 4, 11), (2, 2, 10, 10)]:
        x = drawn(batch, 3 * heads * depth, height, width)
        check(lambda x, heads=heads: attention(x, heads), [x], name=str(x.shape))


def test_layers():
    for shape in image_sizes(1, 6, 33):
        x, gates = drawn(*shape), drawn(shape[0], 2 * shape[1], *shape[2:])
        check(layers.concat_elu, [x], name=f"concat_elu {shape}")
        check(layers.gated_sum, [x, gates], name=f"gated_sum {shape}")
        check(
            lambda *inputs: layers.layer_norm(*inputs, 1e-3),
            [x, drawn(shape[1]), drawn(shape[1])],
            tolerance=1e-4,
            name=f"layer_norm {shape}",
        )


@pytest.mark.parametrize("function", [layers.dropout, layers.concat_elu_dropout])
def test_dropout(function):
    """The mask is seen in the values, and the gradient is that of x times this mask."""
    for shape in image_sizes(1, 6, 33):
        x = (drawn(*shape).abs() + 0.1).requires_grad_()  # elu is the identity for these
        y = function(x, 0.25, training=True)
        plain = x if function is layers.dropout else layers.concat_elu(x)
        scale = 65536 / (65536 - 16384)
        mask = (y != 0) * scale
        torch.testing.assert_close(y, mask * plain)
        assert y.numel() < 200 or abs((y != 0).double().mean() - 0.75) < 0.2
        grad = drawn(*y.shape)
        (got,) = torch.autograd.grad(y, x, grad, retain_graph=True)
        (expected,) = torch.autograd.grad(mask * plain, x, grad)
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("components", [1, 7, 33])
def test_mixture(components):
    """Some sizes have enough parameters for more than one thread."""
    for shape in [(1,), (17,), (3, 1, 5), (2, 37, 41)]:
        x, packed = drawn(*shape), drawn(*shape, 3 * components + 2)
        name = f"{shape}, {components}"
        check(lambda x, packed: packed_logit_cdf(x, packed, FLOOR), [x, packed], 2e-4, name)
        separate = [drawn(components, *shape).movedim(0, -1) for _ in range(3)]
        check(logit_cdf, [x, *separate], 2e-4, name)
        with torch.no_grad():
            root = packed_inverse_logit_cdf(x, packed, FLOOR).double()
            again, _, _ = packed_logit_cdf(root, packed.double(), FLOOR)
        torch.testing.assert_close(again, x.double(), rtol=1e-4, atol=1e-4, msg=name)
