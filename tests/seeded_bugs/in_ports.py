"""Bugs of a translation to another library: right for the most common shapes and numbers."""

from __future__ import annotations

import torch

from flowpp.bijectors import InvertibleConv
from flowpp.conditioner import Conv2d, LayerNorm, gated_attention, gated_conv, gated_maxout
from flowpp.dequantization import TruncatedNormalDequantizer, VariationalDequantizer
from flowpp.model import FlowPlusPlus

from .catalogue import bug, wrap

LAYERS = "gated_conv/dropout gated_attention/dropout gated_maxout/dropout"


@bug(LAYERS, "value")
def dropout_in_evaluation(patch):
    def always(original, x, rate, *, training):
        return original(x, rate, training=True)

    wrap(patch, gated_conv, "concat_elu_dropout", always)
    wrap(patch, gated_attention, "dropout", always)
    wrap(patch, gated_maxout, "dropout", always)


@bug("variational_dequantizer/colour", "value")
def noise_shared_by_the_channels(patch):
    def shared(original, self, x, noise, context=None):
        return original(self, x, noise[:, :1].expand_as(noise), context)

    wrap(patch, VariationalDequantizer, "sample", shared)


@bug("truncated_normal_dequantizer/colour", "value")
def mean_and_scale_of_a_channel_adjacent(patch):
    def adjacent(original, self, x, dtype, context=None):
        mean, log_scale = original(self, x, dtype, context)
        both = torch.cat([mean - 0.5, log_scale], dim=1)
        return 0.5 + both[:, 0::2], both[:, 1::2]

    wrap(patch, TruncatedNormalDequantizer, "distribution", adjacent)


@bug("truncated_normal_dequantizer/colour", "value")
def log_q_averaged_over_the_channels(patch):
    def averaged(original, self, x, noise, context=None):
        u, log_q = original(self, x, noise, context)
        return u, log_q / x.shape[1]

    wrap(patch, TruncatedNormalDequantizer, "sample", averaged)


@bug("flow_plus_plus/colour_by_vector", "bound_gradients context_gradients")
def no_gradient_through_the_noise(patch):
    def detached(original, self, x, noise, context=None):
        u, log_q = original(self, x, noise, context)
        return u.detach(), log_q

    wrap(patch, VariationalDequantizer, "sample", detached)


@bug("variational_dequantizer/colour", "value")
def images_converted_to_bytes(patch):
    def of_bytes(original, self, x, dtype, features=None):
        return original(self, x.to(torch.uint8), dtype, features)

    wrap(patch, VariationalDequantizer, "context", of_bytes)


@bug("flow_plus_plus/colour_by_image", "value contexts")
def context_divided_by_the_levels_of_the_image(patch):
    def divided(original, self, context, shape):
        return original(self, context * (self.context_encoder.levels / self.levels), shape)

    wrap(patch, FlowPlusPlus, "features", divided)


@bug("flow_plus_plus/decode", "value")
def decoded_images_clipped_to_the_last_level(patch):
    def clipped(original, self, z, context=None):
        return original(self, z, context).clamp(max=self.levels - 1)

    wrap(patch, FlowPlusPlus, "decode", clipped)


def _mean_and_difference_of_squares(x, dim, *, keepdim):
    mean = x.mean(dim, keepdim=keepdim)
    return mean, x.square().mean(dim, keepdim=keepdim) - mean.square()


@bug("layer_norm/far_from_zero", "value")
def variance_as_a_difference_of_squares(patch):
    def of_squares(self, x):
        mean, variance = _mean_and_difference_of_squares(x, 1, keepdim=True)
        normal = (x - mean) * torch.rsqrt(variance.clamp(min=0.0) + 1e-5)
        return normal * self.gain[:, None, None] + self.bias[:, None, None]

    assert callable(LayerNorm.forward)
    patch.setattr(LayerNorm, "forward", of_squares)


@bug("act_norm_channel/far_from_zero", "value")
def initial_variance_as_a_difference_of_squares(patch):
    def of_squares(original, x, *, dim, correction, keepdim=False):
        mean, variance = _mean_and_difference_of_squares(x, dim, keepdim=keepdim)
        return variance.clamp(min=0.0), mean

    wrap(patch, torch, "var_mean", of_squares)


@bug("conv2d/weight_norm_floor", "value")
def weight_norm_without_its_floor(patch):
    def normalized(original, self):
        norm = self.weight.square().sum((1, 2, 3)).sqrt()
        return self.weight * (self.gain / norm)[:, None, None, None]

    wrap(patch, Conv2d, "kernel", normalized)


@bug(
    "invertible_conv/small_determinant",
    "log_det inverse_log_det",
    without={"float64": "the determinant is in float64's range"},
)
def determinant_before_its_logarithm(patch):
    def of_determinant(original, self, x):
        log_abs = torch.linalg.det(self.weight).abs().log().sum()
        return (x.shape[2] * x.shape[3] * log_abs).expand(x.shape[0])

    wrap(patch, InvertibleConv, "_log_det", of_determinant)
