"""1x1 convolutions under autocast: float32, with all derivatives and transforms."""

from __future__ import annotations

import pytest
import torch
from torch import func
from torch.autograd import grad, gradcheck, gradgradcheck

from flowpp.bijectors import InvertibleConv, InvertibleConvLU
from flowpp.kernels import pointwise
from flowpp.kernels.pointwise import _convolution as plain
from flowpp.kernels.pointwise import _product as product
from flowpp.kernels.pointwise import _product_gradient as product_gradient

# Torch's own, in forward-mode derivatives and in its compiler.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")


def drawn(*batch, dtype=torch.float32):
    torch.manual_seed(0)
    x = torch.randn(*batch, 3, 6, 4, 5, dtype=dtype, requires_grad=True)
    return x, torch.randn(*batch, 2, 3, 3, dtype=dtype, requires_grad=True)


def test_values_and_gradients_have_the_same_bits():
    x, weight = drawn()
    y = product(x, weight)
    assert torch.equal(y, plain(x, weight))
    cotangent = torch.randn_like(y)
    expected = grad(plain(x, weight), (x, weight), cotangent)
    for one, other in zip(grad(y, (x, weight), cotangent), expected, strict=True):
        assert torch.equal(one, other)


def test_first_and_second_derivatives():
    x, weight = drawn(dtype=torch.float64)
    cotangent = torch.randn_like(x, requires_grad=True)
    assert gradcheck(product, (x, weight), check_forward_ad=True, check_batched_grad=True)
    assert gradgradcheck(product, (x, weight))
    assert gradcheck(lambda a, b: product_gradient(a, b, 2), (x, cotangent), check_forward_ad=True)
    assert gradgradcheck(lambda a, b: product_gradient(a, b, 2), (x, cotangent))


@pytest.mark.parametrize("in_dims", [(0, None), (None, 0), (0, 0)])
def test_function_transforms(in_dims):
    xs, weights = (t.detach() for t in drawn(4))
    x, weight = (t if d == 0 else t[0] for t, d in zip((xs, weights), in_dims, strict=True))

    def gradients(function):
        loss = lambda w, x: function(x, w).pow(2).sum()  # noqa: E731
        return func.vmap(func.grad(loss), in_dims[::-1])(weight, x)

    torch.testing.assert_close(
        func.vmap(product, in_dims)(x, weight), func.vmap(plain, in_dims)(x, weight)
    )
    torch.testing.assert_close(gradients(product), gradients(plain), rtol=1e-5, atol=1e-3)


def test_the_operators_are_well_formed():
    x, weight = (t.detach() for t in drawn())
    torch.library.opcheck(pointwise._pointwise, (x, weight))
    torch.library.opcheck(pointwise._gradient, (x, x, 2))
    meta = product(x.to("meta"), weight.to("meta"))
    assert meta.shape == x.shape
    channels_last = x.to(memory_format=torch.channels_last)
    assert product(channels_last, weight).stride() == plain(channels_last, weight).stride()


def convolutions():
    torch.manual_seed(0)
    return [InvertibleConv(torch.randn(2, 3, 3)), InvertibleConvLU.create(6, groups=2)]


def derivatives(bijector, x, method):
    """Return output, log-det, gradients by x and fields, and those of the gradients' norm."""
    x = x.clone().requires_grad_()
    y, log_det = getattr(bijector, method)(x)
    leaves = [x, *bijector.parameters()]
    first = grad(y.pow(3).sum() + log_det.sum(), leaves, create_graph=True)
    second = grad(sum(g.pow(2).sum() for g in first), leaves)
    return [y, log_det, *first, *second]


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("method", ["forward", "inverse"])
@pytest.mark.parametrize("index", [0, 1], ids=["full", "lu"])
def test_autocast_does_not_reach_1x1_convolutions(index, method, half):
    bijector, x = convolutions()[index], drawn()[0].detach()
    expected = derivatives(bijector, x, method)
    with torch.autocast("cpu", half):
        got = derivatives(bijector, x, method)
        narrow, log_det = getattr(bijector, method)(x.to(half))
    assert narrow.dtype == log_det.dtype == torch.float32
    for one, other in zip(got, expected, strict=True):
        assert one.dtype == torch.float32
        # float16 and bfloat16 would differ by 5e-4 and more.
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5 * other.abs().max().item())


@pytest.mark.parametrize("index", [0, 1], ids=["full", "lu"])
def test_autocast_and_forward_mode(index):
    bijector, x = convolutions()[index], drawn()[0].detach()
    apply = lambda x: bijector(x)[0]  # noqa: E731
    expected = func.jvp(apply, (x,), (x.flip(0),))
    with torch.autocast("cpu", torch.bfloat16):
        got = func.jvp(apply, (x,), (x.flip(0),))
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("autocast", [False, True])
def test_torch_compile_traces_the_whole(autocast):
    x, weight = drawn()
    compiled = torch.compile(pointwise.pointwise, fullgraph=True, backend="aot_eager")
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        y = compiled(x, weight)
        gradients = grad(y.sum(), (x, weight))
    assert torch.equal(y, plain(x, weight))
    for one, other in zip(gradients, grad(plain(x, weight).sum(), (x, weight)), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(("groups", "size"), [(1, 6), (2, 3)])
def test_the_gradient_by_the_matrices_as_products(groups, size):
    """As on CUDA devices; in float64 it is that of the convolution."""
    generator = torch.Generator().manual_seed(0)
    shape = (3, groups * size, 4, 5)
    x, grad = torch.randn(2, *shape, dtype=torch.float64, generator=generator).unbind()
    for x_, grad_ in ((x, grad), (x.contiguous(memory_format=torch.channels_last), grad)):
        torch.testing.assert_close(
            pointwise._sum_of_products(x_, grad_, groups),
            pointwise._convolution_gradient(x_, grad_, groups),
            rtol=1e-12,
            atol=1e-12,
        )
