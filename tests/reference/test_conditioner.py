"""The conditioner against loops over scalars, and its data-dependent initialization."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import correlate

from reference.conditioner import (
    Block,
    Conditioner,
    Conv2d,
    GatedAttention,
    GatedConv,
    GatedMaxout,
    LayerNorm,
    concat_elu,
    gate,
)
from reference.conditioner.dropout import dropout


def conv(rng, inputs, outputs, size=1, *, weight_norm=False, init_scale=1.0):
    gain = rng.uniform(0.5, 2.0, outputs) if weight_norm else None
    return Conv2d(
        weight=0.3 * rng.standard_normal((outputs, inputs, size, size)),
        bias=0.3 * rng.standard_normal(outputs),
        gain=gain,
        init_scale=init_scale,
    )


def gated_conv(rng, filters, *, context=0, size=1):
    return GatedConv(
        conv_in=conv(rng, 2 * filters, filters, 3),
        conv_out=conv(rng, 2 * filters, 2 * filters, size, init_scale=0.1),
        conv_context=conv(rng, 2 * context, filters) if context else None,
        dropout=0.5,
    )


def network(rng, *, mixer=GatedAttention, context=0, activate_last=False):
    extra = {"heads": 2} if mixer is GatedAttention else {}
    blocks = tuple(
        Block(
            conv=gated_conv(rng, 4, context=context),
            norm=LayerNorm(rng.uniform(0.5, 2, 4), rng.standard_normal(4)),
            attention=mixer(conv(rng, 4, 12), conv(rng, 4, 8, init_scale=0.1), **extra),
            attention_norm=LayerNorm(rng.uniform(0.5, 2, 4), rng.standard_normal(4)),
        )
        for _ in range(2)
    )
    return Conditioner(
        proj_in=conv(rng, 3, 4, 3),
        blocks=blocks,
        proj_out=conv(rng, 8 if activate_last else 4, 6, 3, init_scale=0.1),
        position=rng.standard_normal((4, 3, 5)),
        activate_last=activate_last,
    )


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_concat_elu_and_gate():
    x = np.array([2.0, -1.0]).reshape(1, 2, 1, 1)
    want = [2.0, np.expm1(-1.0), np.expm1(-2.0), 1.0]
    np.testing.assert_allclose(concat_elu(x).ravel(), want, rtol=1e-15)
    np.testing.assert_allclose(gate(x), [[[[2.0 / (1.0 + np.e)]]]])
    assert concat_elu(np.full((1, 1, 1, 1), 1e5))[0, 1, 0, 0] == -1.0


@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (5, 3)])
def test_convolution_is_scipys_correlation(rng, kernel):
    layer = Conv2d(rng.standard_normal((4, 3, *kernel)), rng.standard_normal(4))
    x = rng.standard_normal((2, 3, 4, 6))
    y = layer(x)
    assert y.shape == (2, 4, 4, 6)
    for b in range(2):
        for o in range(4):
            want = sum(correlate(x[b, i], layer.weight[o, i], mode="same") for i in range(3))
            np.testing.assert_allclose(y[b, o], want + layer.bias[o], atol=1e-13)


def test_weight_norm(rng):
    layer = conv(rng, 3, 4, 3, weight_norm=True)
    norms = np.sqrt((layer.kernel**2).sum(axis=(1, 2, 3)))
    np.testing.assert_allclose(norms, layer.gain)
    nothing = Conv2d(np.zeros((2, 3, 1, 1)), np.zeros(2), gain=np.ones(2))
    np.testing.assert_array_equal(nothing.kernel, 0.0)
    tiny = Conv2d(np.full((1, 1, 1, 1), 1e-9), np.zeros(1), gain=np.ones(1))
    np.testing.assert_allclose(tiny.kernel, 1e-3)  # the squared norm is 1e-12, not 1e-18


@pytest.mark.parametrize(
    "fields, complaint",
    [
        ({"weight": np.zeros((2, 2))}, "Conv2d needs weight with 4 axes"),
        ({"weight": np.zeros((2, 3, 2, 2))}, "odd size, got \\(2, 2\\)"),
        ({"bias": np.zeros(3)}, r"Conv2d needs bias .*\(2,\), got \(3,\)"),
        ({"gain": np.zeros((2, 1))}, r"Conv2d needs gain .*\(2,\), got \(2, 1\)"),
    ],
)
def test_convolution_refuses(fields, complaint):
    with pytest.raises(ValueError, match=complaint):
        Conv2d(**{"weight": np.zeros((2, 3, 1, 1)), "bias": np.zeros(2), **fields})


def test_wrong_inputs_are_refused(rng):
    x = np.zeros((1, 5, 3, 5))
    for layer in (conv(rng, 4, 2), LayerNorm(np.ones(4), np.zeros(4))):
        with pytest.raises(ValueError, match=f"{type(layer).__name__} needs 4 channels, got 5"):
            layer(x)
    attention = GatedAttention(conv(rng, 5, 12), conv(rng, 4, 10), heads=2)
    with pytest.raises(ValueError, match=r"GatedAttention needs a position .*\(5, 3, 5\), got"):
        attention(x, np.zeros((5, 5, 3)))
    with pytest.raises(ValueError, match="GatedConv needs a context, got none"):
        gated_conv(rng, 5, context=2)(x)
    with pytest.raises(ValueError, match="multiple of 15 .* projected channels, got 12"):
        GatedAttention(conv(rng, 5, 12), conv(rng, 4, 10), heads=5)
    with pytest.raises(ValueError, match="needs a proj_out for activate_last"):
        Conditioner(conv(rng, 1, 1), (), activate_last=True)
    with pytest.raises(ValueError, match="0 <= dropout < 1, got 1.0"):
        GatedMaxout(conv(rng, 4, 12), conv(rng, 4, 8), dropout=1.0)


def test_layer_norm(rng):
    layer = LayerNorm(np.full(6, 2.0), np.full(6, 0.5))
    y = layer(1e3 + 3.0 * rng.standard_normal((2, 6, 3, 3)))
    np.testing.assert_allclose(y.mean(axis=1), 0.5, atol=1e-9)
    np.testing.assert_allclose(y.std(axis=1), 2.0, rtol=1e-4)


def test_gated_conv_is_its_formula(rng):
    layer = gated_conv(rng, 3, context=2, size=3)
    x, context = rng.standard_normal((2, 3, 4, 4)), rng.standard_normal((2, 2, 4, 4))
    h = layer.conv_in(concat_elu(x)) + layer.conv_context(concat_elu(context))
    value, opening = np.split(layer.conv_out(concat_elu(h)), 2, axis=1)
    np.testing.assert_allclose(layer(x, context), x + value / (1.0 + np.exp(-opening)))


def test_attention_is_its_sums(rng):
    heads, depth, height, width = 2, 3, 2, 3
    filters = heads * depth
    layer = GatedAttention(conv(rng, filters, 3 * filters), conv(rng, filters, 2 * filters), heads)
    x, position = (
        rng.standard_normal((1, filters, height, width)),
        rng.standard_normal((filters, height, width)),
    )
    projected = layer.proj_in(x + position)[0].reshape(3 * filters, -1)
    merged = np.empty((filters, height * width))
    for n in range(heads):

        def part(which, n=n):
            start = which * filters + n * depth
            return projected[start : start + depth]

        for i in range(height * width):
            scores = [
                part(0)[:, i] @ part(1)[:, j] / np.sqrt(depth) for j in range(height * width)
            ]
            weights = np.exp(scores) / np.exp(scores).sum()
            merged[n * depth : (n + 1) * depth, i] = part(2) @ weights
    want = x + gate(layer.proj_out(merged.reshape(1, filters, height, width)))
    np.testing.assert_allclose(layer(x, position), want, atol=1e-13)


def test_maxout_takes_neighbours(rng):
    layer = GatedMaxout(conv(rng, 2, 6), conv(rng, 2, 4))
    x = rng.standard_normal((1, 2, 2, 2))
    projected = layer.proj_in(x)
    largest = np.stack([projected[:, :3].max(axis=1), projected[:, 3:].max(axis=1)], axis=1)
    np.testing.assert_allclose(layer(x), x + gate(layer.proj_out(largest)))


def test_dropout_needs_a_generator_and_is_unbiased(rng):
    layer = gated_conv(rng, 2)
    x = rng.standard_normal((1, 2, 2, 2))
    still = layer(x)
    np.testing.assert_array_equal(layer(x), still)
    again = [layer(x, rng=np.random.default_rng(5)) for _ in range(2)]
    np.testing.assert_array_equal(*again)
    assert not np.allclose(again[0], still)
    # Dropout precedes the linear conv_out, so the mean of that layer's output is unbiased.
    many = np.mean([dropout(x, 0.5, rng) for _ in range(4000)], axis=0)
    np.testing.assert_allclose(many, x, atol=0.15)


@pytest.mark.parametrize("activate_last", [False, True])
@pytest.mark.parametrize("mixer", [GatedAttention, GatedMaxout])
def test_conditioner_runs_its_layers_in_order(rng, mixer, activate_last):
    net = network(rng, mixer=mixer, context=2, activate_last=activate_last)
    x, context = rng.standard_normal((2, 3, 3, 5)), rng.standard_normal((2, 2, 3, 5))
    h = net.proj_in(x)
    for block in net.blocks:
        h = block.norm(block.conv(h, context))
        h = block.attention_norm(block.attention(h, net.position))
    want = net.proj_out(concat_elu(h) if activate_last else h)
    np.testing.assert_allclose(net(x, context), want, atol=1e-13)


@pytest.mark.parametrize("weight_norm", [False, True])
def test_convolution_is_fitted(rng, weight_norm):
    layer = conv(rng, 3, 4, 3, weight_norm=weight_norm, init_scale=0.1)
    fitted, y = layer.initialize(rng.standard_normal((16, 3, 4, 4)) + 2.0)
    np.testing.assert_allclose(y.mean(axis=(0, 2, 3)), 0.0, atol=1e-12)
    np.testing.assert_allclose(y.std(axis=(0, 2, 3)), 0.1, rtol=1e-5)
    changed, kept = ("gain", "weight") if weight_norm else ("weight", "gain")
    assert not np.array_equal(getattr(fitted, changed), getattr(layer, changed))
    assert np.array_equal(getattr(fitted, kept), getattr(layer, kept)) or kept == "gain"


@pytest.mark.parametrize("mixer", [GatedAttention, GatedMaxout])
def test_conditioner_is_fitted_layer_by_layer(rng, mixer):
    net = network(rng, mixer=mixer, context=2, activate_last=True)
    x, context = rng.standard_normal((8, 3, 3, 5)), rng.standard_normal((8, 2, 3, 5))
    fitted, y = net.initialize(x, context)
    np.testing.assert_allclose(fitted(x, context), y, atol=1e-12)
    np.testing.assert_allclose(y.std(axis=(0, 2, 3)), 0.1, rtol=1e-3)
    np.testing.assert_allclose(fitted.proj_in(x).std(axis=(0, 2, 3)), 1.0, rtol=1e-5)
    np.testing.assert_array_equal(fitted.position, net.position)
    np.testing.assert_array_equal(fitted.blocks[0].norm.gain, net.blocks[0].norm.gain)
