"""Layers of conditioners on each device against float64 on the CPU.

A sum of n terms of random sign has an error of about sqrt(n) roundings of a term, and a size of
about sqrt(n) terms, so its error is about eps times the largest result. ULPS is 16 times that.
"""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from flowpp.conditioner import Conv2d, GatedAttention, GatedConv, GatedMaxout, LayerNorm
from flowpp.kernels.attention import attention
from flowpp.kernels.backend import use_backend
from flowpp.kernels.convolution import convolution
from flowpp.kernels.layers import concat_elu, gated_sum, layer_norm
from flowpp.kernels.pointwise import pointwise
from flowpp.runtime.precision import float32_precision

ULPS = 16
TRANSFORMED_ULPS = 64
"""For wide 3x3 convolutions in float32, for which cuDNN may choose Winograd's transforms.

Their entries up to 21/4 for tiles of 4x4 multiply the rounding errors of the sums. An H200 had 29
ulps with cuDNN 9.19, and TF32 would have 8,192."""
DTYPES = [torch.float32, torch.float64]


def drawn(*shape, seed=0):
    """Numbers that float32 represents, in float64."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


FUNCTIONS = {
    "3x3 convolution": (convolution, (4, 40, 8, 6), (33, 40, 3, 3), (33,)),
    "wide 3x3 convolution": (convolution, (2, 192, 16, 8), (96, 192, 3, 3), (96,)),
    "1x1 convolution": (convolution, (4, 40, 8, 6), (80, 40, 1, 1), (80,)),
    "attention": (lambda p: attention(p, 4), (2, 3 * 96, 8, 4)),
    "long attention": (lambda p: attention(p, 4), (2, 3 * 32, 32, 16)),
    "concat_elu": (concat_elu, (3, 7, 5, 4)),
    "gated_sum": (gated_sum, (3, 7, 5, 4), (3, 14, 5, 4)),
    "layer_norm": (lambda x, g, b: layer_norm(x, g, b, 1e-5), (3, 33, 5, 4), (33,), (33,)),
    "pointwise": (pointwise, (3, 12, 8, 4), (2, 6, 6)),
}


@pytest.mark.parametrize("channels_last", [False, True], ids=["NCHW", "channels last"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name, dtype, channels_last, device):
    function, *shapes = FUNCTIONS[name]

    def results(device, dtype):
        leaves = [
            drawn(*shape, seed=i).to(device, dtype).requires_grad_()
            for i, shape in enumerate(shapes)
        ]
        inputs = [
            t.contiguous(memory_format=torch.channels_last) if channels_last and t.ndim == 4 else t
            for t in leaves
        ]
        y = function(*inputs)
        cotangent = drawn(*y.shape, seed=9).to(y)
        return y, *torch.autograd.grad(y, leaves, cotangent)

    wide = name == "wide 3x3 convolution" and (device, dtype) == ("cuda", torch.float32)
    assert_close(results(device, dtype), truth(results), dtype, TRANSFORMED_ULPS if wide else ULPS)


def truth(results):
    with use_backend("torch"):
        return results("cpu", torch.float64)


def assert_close(got, expected, dtype, ulps=ULPS):
    for one, other in zip(got, expected, strict=True):
        assert one.dtype == dtype
        allowed = ulps * torch.finfo(dtype).eps * other.abs().max()
        if dtype == torch.float64:
            allowed *= 2  # both are rounded
        error = (one.detach().cpu().double() - other).abs().max()
        assert error <= allowed, f"{error / allowed * ulps:.1f} ulps of the largest value"


LAYERS = {
    "Conv2d": (lambda: Conv2d.create(12, 10, 3, weight_norm=True), (3, 12, 6, 4)),
    "GatedConv": (lambda: GatedConv.create(16, context=5), (3, 16, 6, 4), (3, 5, 6, 4)),
    "GatedAttention": (lambda: GatedAttention.create(16, 4), (3, 16, 6, 4)),
    "GatedMaxout": (lambda: GatedMaxout.create(15), (3, 15, 6, 4)),
    "LayerNorm": (lambda: LayerNorm.create(15), (3, 15, 6, 4)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_with_gradients_of_their_weights(name, device):
    make, *shapes = LAYERS[name]

    def results(device, dtype):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            layer = make().to(device, dtype).eval()
        inputs = [drawn(*s, seed=i).to(device, dtype) for i, s in enumerate(shapes)]
        y = layer(*inputs)
        cotangent = drawn(*y.shape, seed=9).to(y)
        return y, *torch.autograd.grad(y, list(layer.parameters()), cotangent)

    assert_close(results(device, torch.float32), truth(results), torch.float32)


def test_1x1_convolutions_ignore_tf32_and_autocast(device):
    x, weight = drawn(3, 12, 8, 4).float().to(device), drawn(2, 6, 6).float().to(device)
    expected = functional.conv2d(
        x.cpu().double(), weight.cpu().double().flatten(0, 1)[..., None, None], groups=2
    )
    with float32_precision("tf32"), torch.autocast(device, torch.bfloat16):
        got = pointwise(x, weight)
    assert_close([got], [expected], torch.float32)
