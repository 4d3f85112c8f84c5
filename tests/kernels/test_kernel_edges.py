"""Edge cases of the fast paths: strides, underflow, extreme scales."""

from __future__ import annotations

import pytest
import torch
from mpmath import mp

from flowpp.bijectors import Affine
from flowpp.conditioner import Conv2d, GatedConv, GatedMaxout
from flowpp.kernels.attention import attention
from flowpp.kernels.backend import use_backend
from flowpp.kernels.convolution import convolution
from flowpp.kernels.layers import concat_elu, gated_sum, layer_norm
from flowpp.kernels.mixture_logistic import (
    logit_cdf,
    packed_inverse_logit_cdf,
    packed_logit_cdf,
)
from mpmath_truth import DIGITS, mixture_logistic


def test_gradients_of_parameters_in_any_order_of_axes(backend):
    """An expanded tensor's gradient may have strides that have no kernel layout."""
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(2, 2, 3, 1, dtype=torch.float64, generator=generator)
    x = torch.randn(2, 3, 4, dtype=torch.float64, generator=generator)
    others = torch.zeros(2, dtype=torch.float64), torch.tensor([0.0, 1.0], dtype=torch.float64)

    def gradients(position):
        parameter = base.clone().requires_grad_()
        arguments = list(others)
        arguments.insert(position, parameter.movedim(0, -1))
        y, log_derivative = logit_cdf(x, *arguments)
        return torch.autograd.grad(((y + log_derivative) * x).sum(), parameter)[0]

    for position in range(3):
        got = gradients(position)
        with use_backend("torch"):
            torch.testing.assert_close(got, gradients(position), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("components", [2, 128])
@pytest.mark.parametrize("logit", [-90.0, -104.0, -120.0])
def test_a_weight_that_underflows_may_dominate_the_density(backend, components, logit):
    """exp(-104) underflows in float32, but not times a rate of e^30, in a density of e^-69."""
    logits = torch.full((1, components), logit)
    logits[0, 0] = 0
    log_scales = torch.full((1, components), -30.0)
    log_scales[0, 0] = 30
    means = torch.zeros(1, components)
    means[0, 0] = 39 * torch.tensor(30.0).exp()
    y, got = logit_cdf(torch.zeros(1), logits, means, log_scales)
    with mp.workdps(DIGITS):
        expected = mixture_logistic(
            0.0, *(p[0].double().numpy() for p in (logits, means, log_scales))
        )
        for value, truth, allowed in zip((y, got), expected, (3, 16), strict=True):
            unit = torch.finfo(torch.float32).eps * max(1, abs(float(truth)))
            assert abs(value.item() - float(truth)) <= allowed * unit


def negative_view(x):
    """Return x as a view of its negative, whose sign is a flag of the tensor."""
    view = torch._neg_view(-x)
    assert view.is_neg()
    return view


SHAPES = {
    "mixture": [(2, 8, 6, 6), (2, 8, 6, 6, 11)],
    "separate": [(2, 8, 6, 6), *[(2, 8, 6, 6, 3)] * 3],
    "inverse": [(2, 8, 6, 6), (2, 8, 6, 6, 11)],
    "convolution": [(2, 48, 8, 8), (48, 48, 3, 3), (48,)],
    "gated sum": [(2, 8, 6, 6), (2, 16, 6, 6)],
    "attention": [(2, 24, 6, 8)],
    "concat ELU": [(2, 8, 6, 6)],
    "layer norm": [(2, 8, 6, 6), (8,), (8,)],
}
FUNCTIONS = {
    "mixture": lambda x, packed: packed_logit_cdf(x, packed, -0.5)[0],
    "separate": lambda x, *parameters: logit_cdf(x, *parameters)[1],
    "inverse": lambda x, packed: packed_inverse_logit_cdf(x, packed, -0.5),
    "convolution": convolution,
    "gated sum": gated_sum,
    "attention": lambda projected: attention(projected, 2),
    "concat ELU": concat_elu,
    "layer norm": lambda x, gain, bias: layer_norm(x, gain, bias, 1e-5),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_sign_of_a_negative_view_is_not_lost(backend, name):
    generator = torch.Generator().manual_seed(0)
    arguments = [torch.randn(shape, generator=generator) for shape in SHAPES[name]]
    expected = FUNCTIONS[name](*arguments)
    got = FUNCTIONS[name](*map(negative_view, arguments))
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


def test_zero_components_raise(backend):
    for parameters in ([torch.tensor(0.0)] * 3, [torch.zeros(3, 0)] * 3):
        with pytest.raises(ValueError, match="needs at least 1 component"):
            logit_cdf(torch.zeros(3), *parameters)


def test_blocks_of_mismatched_sizes(backend):
    with pytest.raises(RuntimeError, match="must match the size"):
        GatedMaxout(Conv2d.create(4, 9), Conv2d.create(3, 6))(torch.zeros(64, 4, 3, 3))
    few, many = torch.zeros(1, 4, 3, 3), torch.zeros(5, 2, 3, 3)
    assert GatedConv.create(4, context=2)(few, many).shape == (5, 4, 3, 3)
    x, gates = torch.randn(2, 4, 3, 3), torch.randn(2, 8, 1, 1)
    value, gate = gates.chunk(2, 1)
    torch.testing.assert_close(gated_sum(x, gates), x + value * gate.sigmoid())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_affine_map_whose_scale_overflows(dtype):
    extreme = 90.0 if dtype == torch.float32 else 720.0
    ones = torch.ones(1, 1, 1, 1, dtype=dtype)
    small = ones * torch.tensor(-extreme + 20, dtype=dtype).exp()
    grow, shrink = (Affine(s * extreme * ones, 3 * ones) for s in (1, -1))
    expected = torch.tensor(20.0, dtype=dtype).exp() + 3
    torch.testing.assert_close(grow(small)[0].squeeze(), expected, rtol=1e-4, atol=0)
    assert shrink.inverse(3 * ones)[0].item() == 0
