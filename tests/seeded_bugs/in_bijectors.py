"""Bugs in bijectors and their composition."""

from __future__ import annotations

import math

import torch

from flowpp import elementwise
from flowpp.bijectors import (
    ActNorm,
    Affine,
    Chain,
    Checkerboard,
    ColumnStripes,
    Coupling,
    DataLogit,
    FactorOut,
    FirstChannels,
    Flip,
    InvertibleConv,
    InvertibleConvLU,
    Sigmoid,
    Squeeze,
)
from flowpp.bijectors import affine as affine_module
from flowpp.bijectors import invertible_conv as invertible_conv_module

from .catalogue import bug, negated, wrap


@bug("affine/shared", "log_det jacobian")
def wrong_sign_of_log_det(patch):
    wrap(patch, Affine, "forward", negated)


@bug("invertible_conv/joint", "log_det jacobian")
def forgotten_positions_in_the_1x1_convolution(patch):
    wrap(
        patch,
        InvertibleConv,
        "_log_det",
        lambda original, self, x: original(self, x) / (x.shape[2] * x.shape[3]),
    )


@bug("invertible_conv_lu/halves", "log_det jacobian")
def forgotten_positions_in_the_lu_convolution(patch):
    wrap(
        patch,
        InvertibleConvLU,
        "_log_det",
        lambda original, self, x: original(self, x) / (x.shape[2] * x.shape[3]),
    )


@bug("invertible_conv/joint invertible_conv/halves", "forward round_trip_x")
def transposed_1x1_matrix(patch):
    wrap(
        patch,
        invertible_conv_module,
        "mix_channels",
        lambda original, x, weight: original(x, weight.mT),
    )


@bug("invertible_conv_lu/joint", "forward")
def permutation_applied_the_wrong_way_round(patch):
    def rows(original, self):
        return original(self).argsort(1)

    wrap(patch, InvertibleConvLU, "_rows", rows)


@bug("invertible_conv_lu/joint", "forward gradients")
def upper_triangle_with_its_diagonal(patch):
    def factors(original, self, x):
        lower, upper = original(self, x)
        return lower, upper + torch.diag_embed(torch.diagonal(self.upper, dim1=1, dim2=2))

    wrap(patch, InvertibleConvLU, "_factors", factors)


@bug("coupling/affine", "forward log_det")
def swapped_halves(patch):
    def halves_exchanged(original, self, x, context=None):
        y, log_det = original(self, torch.cat(x.chunk(2, 1)[::-1], 1), context)
        return torch.cat(y.chunk(2, 1)[::-1], 1), log_det

    wrap(patch, Coupling, "forward", halves_exchanged)
    wrap(patch, Coupling, "inverse", halves_exchanged)


@bug("coupling/mixture", "forward")
def parameter_slow_and_channel_fast(patch):
    def parameters(self, a, context):
        batch, channels, height, width = a.shape
        raw = self.conditioner(a, context)
        split = raw.reshape(batch, self.family.parameters_per_scalar, channels, height, width)
        return split.permute(0, 2, 3, 4, 1)

    assert callable(Coupling._family_parameters)
    patch.setattr(Coupling, "_family_parameters", parameters)


@bug("affine/shared chain/mixture_and_affine", "log_det jacobian")
def lost_log_det_of_the_affine_map(patch):
    wrap(patch, affine_module, "_log_det", lambda original, *fields: 0 * original(*fields))


@bug("affine/per_example", "log_det")
def log_det_of_the_batch_for_each_example(patch):
    wrap(
        patch,
        affine_module,
        "sum_per_example",
        lambda original, terms: original(terms).sum().expand(len(terms)),
    )


@bug("affine/shared", "contract")
def input_written_to(patch):
    def in_place(original, self, x, context=None):
        y, log_det = original(self, x, context)
        return x.copy_(y), log_det

    wrap(patch, Affine, "forward", in_place)


@bug("act_norm/channel", "contract log_det")
def log_det_without_a_batch_axis(patch):
    wrap(patch, ActNorm, "_log_det", lambda original, self, x: original(self, x)[0])


@bug("act_norm/activation", "forward")
def bias_before_gain(patch):
    wrap(
        patch,
        ActNorm,
        "forward",
        lambda original, self, x, context=None: (
            (x + self.bias) * self.gain,
            original(self, x)[1],
        ),
    )


@bug("act_norm/floor", "forward contract")
def gain_without_its_floor(patch):
    assert callable(ActNorm._gain)
    patch.setattr(ActNorm, "_gain", lambda self: self.gain)


@bug("act_norm/channel", "log_det jacobian")
def shared_gain_counted_once(patch):
    def once(original, self, x):
        return torch.log(self._gain()).sum().expand(len(x))

    wrap(patch, ActNorm, "_log_det", once)


@bug("data_logit/256_levels", "log_det jacobian")
def lost_constant_of_the_data_logit(patch):
    def without_constant(original, self, x, context=None):
        y, log_det = original(self, x, context)
        return y, log_det - x[0].numel() * math.log((1 - 2 * self.margin) / self.levels)

    wrap(patch, DataLogit, "forward", without_constant)


@bug("data_logit/256_levels", "forward log_det")
def one_level_too_few(patch):
    wrap(
        patch,
        DataLogit,
        "__init__",
        lambda original, self, levels, margin=0.05: original(self, levels - 1, margin),
    )


@bug("data_logit/8_levels", "forward")
def margin_fixed(patch):
    wrap(
        patch,
        DataLogit,
        "__init__",
        lambda original, self, levels, margin=0.05: original(self, levels, 0.05),
    )


@bug("sigmoid", "log_det")
def sigmoid_log_det_from_its_rounded_output(patch):
    def from_output(original, self, x, context=None):
        y = original(self, x)[0]
        return y, (torch.log(y) + torch.log(1 - y)).flatten(1).sum(1)

    wrap(patch, Sigmoid, "forward", from_output)


@bug("checkerboard", "forward")
def stripes_for_checkerboard(patch):
    for direction in ("forward", "inverse"):
        assert callable(getattr(Checkerboard, direction))
        patch.setattr(Checkerboard, direction, getattr(ColumnStripes, direction))


@bug("squeeze", "forward")
def squeeze_with_the_channel_slowest(patch):
    def unshuffled(original, self, x, context=None):
        return torch.nn.functional.pixel_unshuffle(x, 2), original(self, x)[1]

    def shuffled(original, self, y, context=None):
        return torch.nn.functional.pixel_shuffle(y, 2), original(self, y)[1]

    wrap(patch, Squeeze, "forward", unshuffled)
    wrap(patch, Squeeze, "inverse", shuffled)


@bug("flip flow/main_affine_colour", "forward")
def flip_left_out(patch):
    def nothing(original, self, x, context=None):
        return x, original(self, x)[1]

    wrap(patch, Flip, "forward", nothing)
    wrap(patch, Flip, "inverse", nothing)


@bug("chain/mixture_and_affine", "inverse round_trip_x")
def chain_inverted_in_forward_order(patch):
    def in_order(original, self, y, context=None):
        total = y.new_zeros(len(y))
        for bijector in self.bijectors:
            y, log_det = bijector.inverse(y, context)
            total = total + log_det
        return y, total

    wrap(patch, Chain, "inverse", in_order)


@bug("factor_out/multi_scale", "forward")
def the_other_half_factored_out(patch):
    def exchanged(original, self, x, context=None):
        y, log_det = original(self, torch.cat(x.chunk(2, 1)[::-1], 1), context)
        return torch.cat(y.chunk(2, 1)[::-1], 1), log_det

    wrap(patch, FactorOut, "forward", exchanged)
    wrap(patch, FactorOut, "inverse", exchanged)


@bug("first_channels/affine", "forward round_trip_x")
def the_last_channels_mapped(patch):
    def reversed_channels(original, self, x, context=None):
        y, log_det = original(self, x.flip(1), context)
        return y.flip(1), log_det

    wrap(patch, FirstChannels, "forward", reversed_channels)


@bug("coupling/affine", "forward log_det")
def log_scale_without_tanh(patch):
    assert callable(elementwise.AffineFamily.fields)
    patch.setattr(elementwise.AffineFamily, "fields", lambda self, r: (r[..., 0], r[..., 1]))
