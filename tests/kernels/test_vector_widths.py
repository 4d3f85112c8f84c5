"""Kernels built for shorter vectors than this machine's give the same bits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from flowpp.kernels.attention import attention
from flowpp.kernels.convolution import convolution
from flowpp.kernels.cpu import build, mixture_logistic

pytestmark = pytest.mark.skipif(
    not build.is_available("attention.cpp"), reason="no C++ compiler here"
)


def processor_flags():
    try:
        return Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return []


def drawn(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def values():
    """Return values and gradients of convolutions, attention and mixtures."""
    results = []
    for channels, out in ((40, 112), (33, 48), (250, 35)):
        x, weight = drawn(2, channels, 8, 12), 0.1 * drawn(out, channels, 3, 3)
        inputs = [t.requires_grad_() for t in (x, weight, drawn(out))]
        y = convolution(*inputs)
        assert "Winograd" in type(y.grad_fn).__name__
        results += [y, *torch.autograd.grad(y.sin().sum(), inputs)]
    for heads, depth in ((2, 24), (1, 16), (1, 7), (2, 50)):
        projected = drawn(2, 3 * heads * depth, 5, 9).requires_grad_()
        y = attention(projected, heads)
        results += [y, *torch.autograd.grad(y.sin().sum(), projected)]
    for order in ((0, 1, 2), (0, 2, 1)):  # components last, components first
        shape = [(3, 37, 11)[i] for i in order]
        logits, means, log_scales = drawn(*shape).permute(*(order.index(i) for i in range(3)))
        x, by_y, by_l = drawn(3, 37)
        arguments = (x, (logits, means, log_scales), -0.5)
        results += [
            *mixture_logistic.forward(*arguments),
            *mixture_logistic.backward(*arguments, by_y, by_l, x.new_empty(0, *x.shape)),
        ]
    return [t.detach() for t in results]


@pytest.mark.skipif("avx512f" not in processor_flags(), reason="no AVX-512 here")
def test_without_avx512(build_again):
    with_avx512 = values()
    build_again("-mno-avx512f")
    for index, (one, two) in enumerate(zip(with_avx512, values(), strict=True)):
        assert torch.equal(one, two), index
