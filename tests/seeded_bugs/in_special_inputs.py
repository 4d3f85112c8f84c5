"""Bugs for special inputs, sizes and circumstances, each detected by a single law."""

from __future__ import annotations

import time

import torch

from flowpp.bijectors import ActNorm, Affine, InvertibleConv, MixtureLogistic
from flowpp.conditioner import LayerNorm

from .catalogue import bug, in_storage_order, wrap


@bug("affine/shared", "special_values", alone="special_values")
def nan_taken_for_zero(patch):
    wrap(
        patch,
        Affine,
        "forward",
        lambda original, self, x, context=None: original(self, torch.nan_to_num(x), context),
    )


@bug("layer_norm", "layer_special_values", alone="layer_special_values")
def nan_normalized_away(patch):
    wrap(
        patch, LayerNorm, "forward", lambda original, self, x: torch.nan_to_num(original(self, x))
    )


@bug("act_norm/random", "sizes", alone="sizes")
def rows_from_nine_on_unchanged(patch):
    def in_blocks(original, self, x, context=None):
        y, log_det = original(self, x, context)
        return torch.cat([y[:, :, :8], x[:, :, 8:]], 2), log_det

    wrap(patch, ActNorm, "forward", in_blocks)


def in_a_buffer(original, self, x, *context):
    """Keep the input in an attribute while another thread may run."""
    self.__dict__["buffer"] = x
    time.sleep(1e-4)
    return original(self, self.__dict__["buffer"], *context)


@bug("affine/shared", "threads", alone="threads")
def input_kept_in_an_attribute(patch):
    wrap(patch, Affine, "forward", in_a_buffer)


@bug("layer_norm", "layer_threads", alone="layer_threads")
def input_of_a_layer_kept_in_an_attribute(patch):
    wrap(patch, LayerNorm, "forward", in_a_buffer)


@bug("layer_norm", "layer_layout", alone="layer_layout")
def memory_of_a_layer_read_in_storage_order(patch):
    wrap(
        patch,
        LayerNorm,
        "forward",
        lambda original, self, x: original(self, in_storage_order(x)),
    )


@bug("invertible_conv/joint", "assignment", alone="assignment")
def log_det_kept_from_the_first_call(patch):
    def kept(original, self, x):
        log_det = original(self, x)
        if torch.is_grad_enabled() or not len(x):
            return log_det
        first = self.__dict__.setdefault("kept", log_det[0])
        return first.expand(len(x))

    wrap(patch, InvertibleConv, "_log_det", kept)


@bug("mixture_logistic/four_components", "both_tails", alone="both_tails")
def another_formula_around_three_hundred(patch):
    def forward(original, self, x, context=None):
        y, log_det = original(self, x, context)
        return torch.where((x > 299) & (x < 301), 1.001 * y, y), log_det

    wrap(patch, MixtureLogistic, "forward", forward)
