"""Bugs in the conditioners."""

from __future__ import annotations

import torch
from torch.nn import functional

from flowpp.bijectors import ActNorm
from flowpp.conditioner import (
    Conditioner,
    Conv2d,
    GatedAttention,
    GatedConv,
    GatedMaxout,
    LayerNorm,
    gated_conv,
    gated_maxout,
    layer_norm,
)

from .catalogue import bug, with_parameters, wrap

ATTENTION = "gated_attention/heads"


@bug(f"{ATTENTION} coupling/mixture", "value forward")
def attention_without_its_scale(patch):
    wrap(
        patch,
        functional,
        "scaled_dot_product_attention",
        lambda original, q, k, v: original(q, k, v, scale=1.0),
    )


@bug(ATTENTION, "value")
def attention_scaled_by_all_filters(patch):
    wrap(
        patch,
        functional,
        "scaled_dot_product_attention",
        lambda original, q, k, v: original(q, k, v, scale=(q.shape[-1] * q.shape[1]) ** -0.5),
    )


@bug(ATTENTION, "value")
def softmax_over_queries(patch):
    def over_queries(original, q, k, v):
        scores = q @ k.mT / q.shape[-1] ** 0.5
        return torch.softmax(scores, -2) @ v

    wrap(patch, functional, "scaled_dot_product_attention", over_queries)


@bug(ATTENTION, "value")
def attention_with_a_causal_mask(patch):
    wrap(
        patch,
        functional,
        "scaled_dot_product_attention",
        lambda original, q, k, v: original(q, k, v, is_causal=True),
    )


@bug(ATTENTION, "value")
def values_of_another_head(patch):
    wrap(
        patch,
        functional,
        "scaled_dot_product_attention",
        lambda original, q, k, v: original(q, k, v.roll(1, dims=1)),
    )


@bug(ATTENTION, "value")
def keys_and_queries_exchanged(patch):
    wrap(
        patch,
        functional,
        "scaled_dot_product_attention",
        lambda original, q, k, v: original(k, q, v),
    )


@bug(f"{ATTENTION} coupling/mixture", "value forward")
def position_embedding_left_out(patch):
    wrap(
        patch,
        GatedAttention,
        "forward",
        lambda original, self, x, position=None: original(self, x),
    )


@bug(ATTENTION, "value")
def position_embedding_in_the_residual(patch):
    def with_position(original, self, x, position=None):
        return original(self, x, position) + position

    wrap(patch, GatedAttention, "forward", with_position)


@bug("coupling/mixture_maxout gated_maxout", "value forward")
def maxout_over_thirds(patch):
    def thirds(self, x, position=None):
        h = self.proj_in(x if position is None else x + position)
        return gated_maxout.gated_sum(x, self.proj_out(h.unflatten(1, (3, -1)).amax(1)))

    assert callable(GatedMaxout.forward)
    patch.setattr(GatedMaxout, "forward", thirds)


@bug("gated_conv/plain coupling/affine", "value forward")
def wrong_half_of_the_gate(patch):
    def swapped(original, x, gates):
        return original(x, torch.cat(gates.chunk(2, 1)[::-1], 1))

    wrap(patch, gated_conv, "gated_sum", swapped)


@bug("gated_conv/plain", "value")
def concat_elu_in_the_other_order(patch):
    wrap(patch, gated_conv, "concat_elu", lambda original, x: original(-x))


@bug("gated_conv/plain", "value")
def residual_left_out(patch):
    wrap(
        patch,
        GatedConv,
        "forward",
        lambda original, self, x, context=None: original(self, x, context) - x,
    )


@bug("gated_conv/with_context coupling/affine_with_context", "value forward gradients")
def context_ignored(patch):
    def ignoring(original, self, x, context=None):
        return original(self, x, None if context is None else 0 * context)

    wrap(patch, GatedConv, "forward", ignoring)


@bug("layer_norm", "value")
def layer_norm_with_unbiased_variance(patch):
    def unbiased(self, x):
        variance, mean = torch.var_mean(x, dim=1, correction=1, keepdim=True)
        normal = (x - mean) / torch.sqrt(variance + 1e-5)
        return normal * self.gain[:, None, None] + self.bias[:, None, None]

    assert callable(LayerNorm.forward)
    patch.setattr(LayerNorm, "forward", unbiased)


@bug("layer_norm", "value")
def layer_norm_with_another_epsilon(patch):
    assert layer_norm.LAYER_NORM_EPSILON == 1e-5
    patch.setattr(layer_norm, "LAYER_NORM_EPSILON", 1e-6)


@bug("conv2d/plain", "value")
def kernel_flipped(patch):
    wrap(patch, Conv2d, "kernel", lambda original, self: original(self).flip(2, 3))


@bug("conv2d/weight_norm coupling/mixture_weight_norm", "value forward")
def weight_norm_left_out(patch):
    assert callable(Conv2d.kernel)
    patch.setattr(Conv2d, "kernel", lambda self: self.weight)


@bug(
    "coupling/affine conv2d/plain",
    "forward value",
    without={"float32": "in float32 it changes nothing"},
)
def float32_inside_float64(patch):
    wrap(patch, Conv2d, "forward", lambda original, self, x: original(self, x.float().to(x.dtype)))


@bug("conditioner/weight_norm_activate_last coupling/mixture_activate_last", "value forward")
def no_activation_before_the_last_convolution(patch):
    def not_activated(original, self, x, context=None):
        features = original(with_parameters(self, proj_out=None), x, context)
        return self.proj_out(torch.cat([features, -features], 1))

    wrap(patch, Conditioner, "forward", not_activated)


@bug("act_norm/initialized", "value")
def initialization_with_unbiased_variance(patch):
    wrap(
        patch,
        torch,
        "var_mean",
        lambda original, x, dim, correction, keepdim=False: original(
            x, dim=dim, correction=1, keepdim=keepdim
        ),
    )


@bug("conv2d/initialized", "value")
def initialization_with_an_unscaled_bias(patch):
    def unscaled(original, self, x):
        kernel = self.weight.data.clone()
        original(self, x)
        self.bias.data.mul_((kernel / self.weight.data)[:, 0, 0, 0])

    wrap(patch, Conv2d, "initialize", unscaled)


@bug("act_norm_channel/initialized", "value")
def initialization_of_the_gain_alone(patch):
    def gain_alone(original, self, x):
        bias = self.bias.data.clone()
        original(self, x)
        self.bias.data.copy_(bias)

    wrap(patch, ActNorm, "initialize", gain_alone)
