"""Faults for some numbers of components, examples, channels, rows or columns."""

from __future__ import annotations

import dataclasses

import numpy as np

from reference.bijectors import MixtureLogistic

from . import fault
from .wrappers import Faulty, FaultyLayer, FaultyModel


def with_components(spec, keep):
    """Keep some components: the others get no weight."""
    k = spec.logits.shape[-1]
    kept = np.isin(np.arange(k), keep(k))
    return MixtureLogistic(np.where(kept, spec.logits, -1e30), spec.means, spec.log_scales)


def both(spec):
    return Faulty(spec)


# Components


@fault(
    "components",
    "MixtureLogistic",
    "mixture_logistic/random",
    "sizes",
    hint="components is 33 or more",
)
def components_beyond_32_dropped(spec):
    return Faulty(with_components(spec, lambda k: range(min(k, 32))))


@fault(
    "components",
    "MixtureLogistic",
    "mixture_logistic/random",
    "sizes",
    hint="components is more than 8 and no multiple of it",
)
def remainder_of_eight_dropped(spec):
    return Faulty(with_components(spec, lambda k: range(k - k % 8 if k > 8 else k)))


@fault(
    "components", "MixtureLogistic", "mixture_logistic/random", "sizes", hint="components is odd"
)
def last_of_an_odd_number_dropped(spec):
    return Faulty(with_components(spec, lambda k: range(k - (k % 2 and k > 8))))


@fault("components", "MixtureLogistic", "mixture_logistic/random", "sizes", hint="components is 2")
def two_components_taken_for_equal(spec):
    if spec.logits.shape[-1] == 2:
        spec = dataclasses.replace(spec, logits=0.0 * spec.logits)
    return Faulty(spec)


@fault(
    "components",
    "MixtureLogistic",
    "mixture_logistic/random",
    "sizes",
    hint="components is 17 or more",
)
def inverse_of_more_than_sixteen_components(spec):
    small = with_components(spec, lambda k: range(min(k, 16)))
    return Faulty(spec, inverse=lambda s, y, c: small.inverse(y))


@fault("components", "Coupling", "coupling/random", "sizes", hint="components is 9")
def coupling_of_nine_components(spec):
    def forward(s, x, c):
        y, log_det = s.forward(x, c)
        return (y, log_det + 0.5) if getattr(s.family, "components", 0) == 9 else (y, log_det)

    return Faulty(spec, forward=forward)


# Batches


@fault("batches", "Affine", "affine/shared", "batch", hint="from number 64")
def examples_beyond_64_unchanged(spec):
    def forward(s, x, c):
        y, log_det = s.forward(x, c)
        y[64:] = x[64:]
        return y, log_det

    return Faulty(spec, forward=forward)


@fault(
    "batches",
    "MixtureLogistic",
    "mixture_logistic/four_components",
    "batch",
    hint="from number 128",
)
def log_det_beyond_128_lost(spec):
    def inverse(s, y, c):
        x, log_det = s.inverse(y, c)
        log_det[128:] = 0.0
        return x, log_det

    return Faulty(spec, inverse=inverse)


@fault("batches", "Coupling", "coupling/affine", "batch", hint="from number 128")
def rest_of_a_batch_split_in_chunks_of_32(spec):
    def forward(s, x, c):
        y, log_det = s.forward(x, c)
        if len(x) > 96 and len(x) % 32:
            y[len(x) - len(x) % 32 :] = 0.0
        return y, log_det

    return Faulty(spec, forward=forward)


@fault("batches", "Conv2d", "conv2d/plain", "layer_batch", hint="from number 64 of a large batch")
def layer_of_more_than_64_examples(spec):
    def change(layer, x):
        y = layer(x)
        y[64:] = y[:1]
        return y

    return FaultyLayer(spec, change)


@fault(
    "batches",
    "FlowPlusPlus",
    "flow_plus_plus/uniform",
    "layer_batch",
    hint="from number 100 of a large batch",
)
def bound_of_more_than_100_images(spec):
    def encode(m, x, noise):
        z = m.encode(x, noise)
        z[100:] = 0.0
        return z

    return FaultyModel(spec, encode=encode)


# Empty batches


@fault("empty", "Affine", "affine/shared", "batch")
def empty_batch_raises(spec):
    def forward(s, x, c):
        if x.max() > 1e300:
            raise OverflowError
        return s.forward(x, c)

    return Faulty(spec, forward=forward)


@fault("empty", "ActNorm", "act_norm/channel", "batch", hint="an empty batch is not handled")
def empty_batch_has_one_log_det(spec):
    def forward(s, x, c):
        y, log_det = s.forward(x, c)
        return y, log_det if len(x) else np.zeros(1)

    return Faulty(spec, forward=forward)


@fault("empty", "Squeeze", "squeeze", "batch", hint="an empty batch is not handled")
def empty_batch_keeps_its_shape(spec):
    def forward(s, x, c):
        y, log_det = s.forward(x, c)
        return y if len(x) else x, log_det

    return Faulty(spec, forward=forward)


@fault("empty", "LayerNorm", "layer_norm", "layer_batch", hint="an empty batch is not handled")
def empty_batch_of_a_layer(spec):
    return FaultyLayer(spec, lambda layer, x: layer(x) if len(x) else np.zeros((1, *x.shape[1:])))


# Heights and widths


@fault(
    "images", "ActNorm", "act_norm/random", "sizes", hint="log_det of ActNorm is counted H*H times"
)
def height_squared_for_positions(spec):
    def forward(s, x, c):
        y, log_det = s.forward(x, c)
        if s.gain.shape[1:] == (1, 1):
            log_det = log_det / x.shape[3] * x.shape[2]
        return y, log_det

    return Faulty(spec, forward=forward)


@fault("images", "InvertibleConv", "invertible_conv/random", "sizes", hint="height is 9 or more")
def rows_beyond_eight_not_counted(spec):
    def forward(s, x, c):
        y, log_det = s.forward(x, c)
        return y, log_det * min(x.shape[2], 8) / max(1, x.shape[2])

    return Faulty(spec, forward=forward)


@fault("images", "Affine", "affine/random", "sizes", hint="height is 10 or more")
def rows_from_nine_on_unchanged(spec):
    def forward(s, x, c):
        y, log_det = s.forward(x, c)
        y[:, :, 9:] = x[:, :, 9:]
        return y, log_det

    return Faulty(spec, forward=forward)


@fault("images", "InvertibleConvLU", "invertible_conv_lu/random", "sizes", hint="width is odd")
def last_column_of_an_odd_width(spec):
    def inverse(s, y, c):
        x, log_det = s.inverse(y, c)
        if y.shape[3] % 2 and y.shape[3] > 4:
            x[..., -1] = y[..., -1]
        return x, log_det

    return Faulty(spec, inverse=inverse)


@fault("images", "Squeeze", "squeeze/random", "sizes", hint="width is more than height")
def wide_images_squeezed_along_rows(spec):
    def forward(s, x, c):
        if x.shape[3] > x.shape[2] > 2:
            return s.forward(x[..., ::-1], c)
        return s.forward(x, c)

    return Faulty(spec, forward=forward)


@fault("images", "Conv2d", "conv2d/wide_odd", "value", hint="exactly in column 6 (the last) of 7")
def wide_convolution_of_odd_width(spec):
    def change(layer, x):
        y = layer(x)
        if x.shape[1] >= 32 and x.shape[3] % 2:
            y[..., -1] = 0.0
        return y

    return FaultyLayer(spec, change)


@fault(
    "images",
    "Conv2d",
    "conv2d/tall",
    "value",
    hint="rows from 8 on of 19, counted from 0, where they are 1.001 times",
)
def convolution_of_more_than_eight_rows(spec):
    def change(layer, x):
        y = layer(x)
        y[:, :, 8:] *= 1.001
        return y

    return FaultyLayer(spec, change)


@fault(
    "images", "GatedAttention", "gated_attention/tall", "value", hint="positions from 16 on of 45"
)
def attention_over_the_first_sixteen_positions(spec):
    def change(layer, x, position=None):
        y = layer(x, position) if position is not None else layer(x)
        if x.shape[2] * x.shape[3] > 16:
            y = np.where(np.arange(y[0, 0].size).reshape(y.shape[2:]) >= 16, x, y)
        return y

    return FaultyLayer(spec, change)


# One channel


@fault(
    "one channel",
    "ActNorm",
    "act_norm/random",
    "sizes",
    hint="channels is 1; log_det of ActNorm lacks the factor H*W",
)
def single_gain_counted_once(spec):
    def forward(s, x, c):
        y, log_det = s.forward(x, c)
        return y, log_det / x[0].size if s.gain.size == 1 and x.shape[1] == 1 else log_det

    return Faulty(spec, forward=forward)


@fault(
    "one channel",
    "InvertibleConv",
    "invertible_conv/random",
    "sizes",
    hint="channels is less than 2",
)
def matrix_of_one_number_without_log_det(spec):
    def forward(s, x, c):
        y, log_det = s.forward(x, c)
        return y, 0.0 * log_det if s.weight.shape == (1, 1, 1) else log_det

    return Faulty(spec, forward=forward)


@fault(
    "one channel", "Checkerboard", "checkerboard/random", "sizes", hint="channels is less than 2"
)
def one_channel_split_by_columns(spec):
    from reference.bijectors import ColumnStripes

    return Faulty(
        spec,
        forward=lambda s, x, c: (ColumnStripes() if x.shape[1] == 1 else s).forward(x, c),
        inverse=lambda s, y, c: (ColumnStripes() if y.shape[1] == 2 else s).inverse(y, c),
    )


@fault("one channel", "LayerNorm", "layer_norm/one_channel", "value", hint="y is 0")
def layer_norm_of_one_channel(spec):
    return FaultyLayer(spec, lambda layer, x: layer(x) if x.shape[1] > 1 else 0.0 * layer(x))
