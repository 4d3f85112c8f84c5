"""Tensors that a kernel cannot read, and transforms that must see torch's operations."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.flop_counter import FlopCounterMode

from flowpp.kernels import layers
from flowpp.kernels.attention import attention
from flowpp.kernels.backend import backend_for, use_backend
from flowpp.kernels.convolution import convolution
from flowpp.kernels.cpu import build
from flowpp.kernels.cpu.launch import call
from flowpp.kernels.mixture_logistic import logit_cdf, packed_logit_cdf
from flowpp.kernels.visibility import is_plain

pytestmark = pytest.mark.skipif(
    not build.is_available("layers.cpp"), reason="no C++ compiler here"
)
LAYERS = {
    "convolution": (convolution, [(2, 32, 8, 8), (33, 32, 3, 3), (33,)]),
    "attention": (lambda x: attention(x, 2), [(2, 24, 6, 8)]),
    "concat_elu": (layers.concat_elu, [(2, 8, 6, 6)]),
    "gated_sum": (layers.gated_sum, [(2, 8, 6, 6), (2, 16, 6, 6)]),
    "layer_norm": (lambda *t: layers.layer_norm(*t, 1e-5), [(2, 8, 6, 6), (8,), (8,)]),
}
MIXTURES = {
    "mixture": (lambda x, p: packed_logit_cdf(x, p, -0.5)[0], [(2, 8, 6, 6), (2, 8, 6, 6, 11)]),
    "separate": (lambda *t: logit_cdf(*t)[1], [(2, 3, 4), *[(2, 3, 4, 5)] * 3]),
}
DROPOUTS = {
    "dropout": (lambda x: layers.dropout(x, 0.3, training=True), [(2, 8, 6, 6)]),
    "concat_elu_dropout": (
        lambda x: layers.concat_elu_dropout(x, 0.3, training=True), [(2, 8, 6, 6)],
    ),
}  # fmt: skip
CLOSE = {"rtol": 1e-4, "atol": 1e-4}


def drawn(shapes):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator) for shape in shapes]


class Named(torch.Tensor):
    """A subclass that adds nothing."""


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_plain_tensors_are_told_from_others():
    x = torch.randn(2, 3, 4, 5)
    for plain in (x, x[:, ::2], x.mT, x[:1].expand(4, -1, -1, -1), torch.nn.Parameter(x)):
        assert is_plain(plain)
    others = [
        x.as_subclass(Named), x.to_sparse(), x.to_mkldnn(),
        torch._efficientzerotensor(2, 3, 4, 5), torch.nested.nested_tensor(list(x)),
    ]  # fmt: skip
    for other in others:
        assert not is_plain(other)
        assert backend_for(other, kernel="layers") == "torch"


@pytest.mark.parametrize("name", [*LAYERS, *MIXTURES])
def test_zero_tensors_without_memory(name):
    function, shapes = (LAYERS | MIXTURES)[name]
    inputs = drawn(shapes)
    zeros = [torch._efficientzerotensor(*t.shape) for t in inputs]
    expected = function(*map(torch.zeros_like, inputs))
    torch.testing.assert_close(function(*zeros), expected)
    leaves = [t.requires_grad_() for t in inputs]
    y = function(*leaves)
    for gradient in torch.autograd.grad(y, leaves, torch._efficientzerotensor(*y.shape)):
        assert (gradient == 0).all()


@pytest.mark.parametrize("name", [*LAYERS, *MIXTURES, *DROPOUTS])
def test_batched_gradients_equal_single_ones(name):
    function, shapes = (LAYERS | MIXTURES | DROPOUTS)[name]
    leaves = [t.requires_grad_() for t in drawn(shapes)]
    y = function(*leaves)
    many = torch.randn(3, *y.shape)
    batched = torch.autograd.grad(y, leaves, many, is_grads_batched=True, retain_graph=True)
    for index, grad in enumerate(many):
        single = torch.autograd.grad(y, leaves, grad, retain_graph=True)
        for got, expected in zip(batched, single, strict=True):
            torch.testing.assert_close(got[index], expected, **CLOSE)


@pytest.mark.parametrize("name", [*LAYERS, *MIXTURES])
def test_gradients_of_any_kind(name):
    """Negative views, expanded tensors and subclasses, which a backward pass may be given."""
    function, shapes = (LAYERS | MIXTURES)[name]
    leaves = [t.requires_grad_() for t in drawn(shapes)]
    y = function(*leaves)
    row = torch.randn(y.shape[-1])
    grad = row.expand(y.shape).contiguous()
    expected = torch.autograd.grad(y, leaves, grad, retain_graph=True)
    for other in (row.expand(y.shape), torch._neg_view(-grad), grad.as_subclass(Named)):
        got = torch.autograd.grad(y, leaves, other, retain_graph=True)
        for one, two in zip(got, expected, strict=True):
            torch.testing.assert_close(one.as_subclass(torch.Tensor), two, **CLOSE)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit.trace.*:FutureWarning")
@pytest.mark.parametrize("name", LAYERS)
def test_tracers_see_the_operations(name):
    function, shapes = LAYERS[name]
    inputs = drawn(shapes)
    others = [t + 0.5 for t in inputs]
    expected = function(*others)
    torch.testing.assert_close(make_fx(function)(*inputs)(*others), expected, **CLOSE)
    torch.testing.assert_close(
        torch.jit.trace(function, tuple(inputs))(*others), expected, **CLOSE
    )
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert isinstance(function(*inputs), FakeTensor)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch.func itself
@pytest.mark.parametrize("name", LAYERS)
def test_transforms_of_layers(name):
    function, shapes = LAYERS[name]
    inputs = drawn(shapes)
    pairs = [torch.stack([t, t + 0.5]) for t in inputs]
    expected = torch.stack([function(*each) for each in zip(*pairs, strict=True)])
    torch.testing.assert_close(torch.func.vmap(function)(*pairs), expected, **CLOSE)
    with use_backend("torch"):
        tangent = torch.func.jvp(function, tuple(inputs), tuple(inputs))[1]
    torch.testing.assert_close(
        torch.func.jvp(function, tuple(inputs), tuple(inputs))[1], tangent, **CLOSE
    )


def test_operations_are_counted():
    function, shapes = LAYERS["convolution"]
    with FlopCounterMode(display=False) as counter:
        function(*drawn(shapes))
    assert counter.get_total_flops() == 2 * 2 * 33 * 32 * 9 * 64


def test_a_kernel_refuses_a_tensor_without_memory():
    x = torch._efficientzerotensor(1, 2, 3, 3)
    with pytest.raises((TypeError, RuntimeError), match="memory|storage"):
        call("layers.cpp", "concat_elu_forward", x, 1, 18, torch.empty(1, 4, 3, 3))
