"""Faults for special inputs: not finite, tiny, far out, or with unusual strides."""

from __future__ import annotations

import numpy as np

from . import fault
from .wrappers import Faulty, FaultyLayer, FaultyModel


def cleaned(x, **to):
    return np.nan_to_num(x, **to)


# NaN and infinity


@fault(
    "not finite",
    "Affine",
    "affine/shared",
    "special_values",
    hint="a NaN or an infinity is replaced",
)
def nan_taken_for_zero(spec):
    return Faulty(
        spec, forward=lambda s, x, c: s.forward(cleaned(x, posinf=np.inf, neginf=-np.inf))
    )


@fault(
    "not finite",
    "MixtureLogistic",
    "mixture_logistic/four_components",
    "special_values",
    hint="a NaN or an infinity is replaced",
)
def infinity_clipped(spec):
    return Faulty(spec, forward=lambda s, x, c: s.forward(np.clip(x, -1e30, 1e30)))


@fault(
    "not finite",
    "Coupling",
    "coupling/affine",
    "special_values",
    hint="a NaN or an infinity is replaced",
)
def log_det_of_nan_is_zero(spec):
    def forward(s, x, c):
        y, log_det = s.forward(x, c)
        return y, cleaned(log_det)

    return Faulty(spec, forward=forward)


@fault(
    "not finite", "Sigmoid", "sigmoid", "special_values", hint="a NaN or an infinity is replaced"
)
def nan_of_a_comparison(spec):
    def inverse(s, y, c):
        inside = (y > 0) & (y < 1)
        x, log_det = s.inverse(np.where(inside, y, 0.5), c)
        return np.where(inside, x, np.sign(np.nan_to_num(y) - 0.5) * np.inf), log_det

    return Faulty(spec, inverse=inverse)


@fault("not finite", "ActNorm", "act_norm/channel", "special_values")
def nan_spreads_over_the_batch(spec):
    def forward(s, x, c):
        y, log_det = s.forward(x, c)
        return y + 0.0 * x.sum(), log_det

    return Faulty(spec, forward=forward)


@fault(
    "not finite",
    "InvertibleConv",
    "invertible_conv/joint",
    "special_values",
    hint="a NaN or an infinity is replaced",
)
def nan_masked_in_the_inverse(spec):
    def inverse(s, y, c):
        x, log_det = s.inverse(y, c)
        return np.where(np.isnan(x), 0.0, x), log_det

    return Faulty(spec, inverse=inverse)


@fault(
    "not finite",
    "LayerNorm",
    "layer_norm",
    "layer_special_values",
    hint="a NaN or an infinity is replaced",
)
def nan_normalized_away(spec):
    return FaultyLayer(spec, lambda layer, x: cleaned(layer(x)))


@fault(
    "not finite",
    "Conv2d",
    "conv2d/plain",
    "layer_special_values",
    hint="a NaN or an infinity is replaced",
)
def infinity_made_finite_by_a_layer(spec):
    return FaultyLayer(spec, lambda layer, x: layer(np.clip(x, -1e4, 1e4)))


# NaN noise


@fault(
    "NaN noise",
    "UniformDequantizer",
    "uniform_dequantizer/log_prob",
    "layer_special_values",
    hint="a NaN or an infinity is replaced",
)
def nan_noise_inside_the_unit_cube(spec):
    return FaultyModel(spec, log_prob=lambda m, x, u: m.log_prob(x, cleaned(u, nan=0.5)))


@fault(
    "NaN noise",
    "FlowPlusPlus",
    "flow_plus_plus/variational",
    "layer_special_values",
    hint="a NaN or an infinity is replaced",
)
def nan_noise_replaced_in_the_bound(spec):
    return FaultyModel(spec, elbo=lambda m, x, noise: m.elbo(x, cleaned(noise)))


@fault(
    "NaN noise",
    "VariationalDequantizer",
    "variational_dequantizer",
    "layer_special_values",
    hint="a NaN or an infinity is replaced",
)
def nan_noise_replaced_in_log_q(spec):
    def sample(m, x, noise):
        u, log_q = m.sample(x, noise)
        return u, cleaned(log_q)

    return FaultyModel(spec, sample=sample)


# Subnormals and -0.0


@fault(
    "subnormal",
    "Sigmoid",
    "sigmoid",
    "special_values",
    hint="that special numbers are not considered in",
)
def subnormals_flushed_before_the_logit(spec):
    def inverse(s, y, c):
        return s.inverse(np.where(np.abs(y) < np.finfo(y.dtype).tiny, 0.0, y), c)

    return Faulty(spec, inverse=inverse)


@fault(
    "subnormal",
    "Affine",
    "affine/shared",
    "special_values",
    hint="that special numbers are not considered in",
)
def sign_of_negative_zero(spec):
    def forward(s, x, c):
        y, log_det = s.forward(x, c)
        return np.where((x == 0) & np.signbit(x), -y, y), log_det

    return Faulty(spec, forward=forward)


@fault(
    "subnormal",
    "MixtureLogistic",
    "mixture_logistic/one_component",
    "special_values",
    hint="exactly where x is 0 or subnormal",
)
def division_by_x(spec):
    def forward(s, x, c):
        y, log_det = s.forward(x, c)
        return y * (x * (1.0 / x)) if (np.abs(x) < np.finfo(x.dtype).tiny).any() else y, log_det

    return Faulty(spec, forward=forward)


@fault(
    "subnormal",
    "LayerNorm",
    "layer_norm",
    "layer_special_values",
    hint="that special numbers are not considered in",
)
def layer_with_the_sign_of_negative_zero(spec):
    def change(layer, x):
        y = layer(x)
        return np.where((x == 0) & np.signbit(x), -y, y)

    return FaultyLayer(spec, change)


# Tails


@fault(
    "both tails",
    "MixtureLogistic",
    "mixture_logistic/four_components",
    "forward",
    hint="forward is wrong below x = -200",
)
def left_tail_ends_at_200(spec):
    def forward(s, x, c):
        y, log_det = s.forward(x, c)
        at = x[..., :1, 1:2]
        y[..., :1, 1:2] = np.where(
            at < -200, s.forward(np.maximum(x, -200.0))[0][..., :1, 1:2], y[..., :1, 1:2]
        )
        return y, log_det

    return Faulty(spec, forward=forward)


@fault(
    "both tails",
    "MixtureLogistic",
    "mixture_logistic/four_components",
    "both_tails",
    hint="log_det of forward is wrong above x = 300",
)
def log_det_of_the_right_tail(spec):
    def forward(s, x, c):
        y, log_det = s.forward(x, c)
        return y, log_det + 1e-3 * (x[:, :, 0, 0] > 300).sum(axis=1)

    return Faulty(spec, forward=forward)


@fault(
    "both tails",
    "Sigmoid",
    "sigmoid/both_tails",
    "log_det",
    hint="log_det of forward is wrong above x = 36",
)
def right_tail_of_the_sigmoid_from_one_minus_y(spec):
    def forward(s, x, c):
        y, log_det = s.forward(x, c)
        right = np.where(x > 15, np.maximum(x, 15.0) - np.minimum(np.abs(x), 36.0), 0.0)
        return y, log_det + right.reshape(len(x), -1).sum(1)

    return Faulty(spec, forward=forward)


@fault("both tails", "Coupling", "coupling/mixture", "both_tails", hint="where it stays at -25")
def inverse_searched_to_25_on_the_left(spec):
    def inverse(s, y, c):
        x, log_det = s.inverse(y, c)
        b = x.shape[1] // 2
        x[:, b:, 0, -1] = np.maximum(x[:, b:, 0, -1], -25.0)
        return x, log_det

    return Faulty(spec, inverse=inverse)


# Strides


def in_absolute_strides(x):
    """Read memory from its lowest address on, as code does that ignores a stride's sign."""
    flips = tuple(slice(None, None, -1 if s < 0 else 1) for s in x.strides)
    return x[flips]


def in_positive_strides(x):
    """Read a repeated array as if it were stored once for each index."""
    if 0 not in x.strides:
        return x
    flat = x.reshape(-1).copy()
    flat[x.size // 2 :] = 0.0
    return flat.reshape(x.shape)


@fault("strides", "Affine", "affine/shared", "layout", hint="memory is read in storage order")
def sign_of_strides_ignored(spec):
    return Faulty(spec, forward=lambda s, x, c: s.forward(in_absolute_strides(x), c))


@fault(
    "strides",
    "MixtureLogistic",
    "mixture_logistic/four_components",
    "layout",
    hint="memory is read in storage order",
)
def sign_of_strides_ignored_by_the_inverse(spec):
    return Faulty(spec, inverse=lambda s, y, c: s.inverse(in_absolute_strides(y), c))


@fault("strides", "Flip", "flip", "layout", hint="memory is read in storage order")
def zero_strides_taken_for_dense(spec):
    return Faulty(spec, forward=lambda s, x, c: s.forward(in_positive_strides(x), c))


@fault(
    "strides",
    "Coupling",
    "coupling/affine_with_context",
    "layout",
    hint="memory is read in storage order",
)
def zero_strides_of_a_context(spec):
    def forward(s, x, c):
        return s.forward(x, None if c is None else in_positive_strides(c))

    return Faulty(spec, forward=forward)


@fault("strides", "Conv2d", "conv2d/plain", "layer_layout", hint="memory is read in storage order")
def layer_that_ignores_the_sign_of_strides(spec):
    return FaultyLayer(spec, lambda layer, x: layer(in_absolute_strides(x)))


@fault(
    "strides", "LayerNorm", "layer_norm", "layer_layout", hint="memory is read in storage order"
)
def layer_that_reads_in_storage_order(spec):
    return FaultyLayer(spec, lambda layer, x: layer(np.ravel(x, order="K").reshape(x.shape)))
