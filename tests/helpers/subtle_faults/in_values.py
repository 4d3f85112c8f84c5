"""Faults for extreme parameters and weights."""

from __future__ import annotations

import dataclasses

import numpy as np

from . import fault
from .wrappers import Faulty, FaultyLayer

# Log-scales


@fault(
    "log-scales",
    "MixtureLogistic",
    "mixture_logistic/log_scales_-20_to_20",
    "log_det",
    hint="the log-scales are clamped to [-15, 15]",
)
def log_scales_clamped_at_15(spec):
    return Faulty(dataclasses.replace(spec, log_scales=np.clip(spec.log_scales, -15.0, 15.0)))


@fault(
    "log-scales",
    "MixtureLogistic",
    "mixture_logistic/log_scales_to_90",
    "inverse",
    dtype="float32",
    hint="an exponential overflows, or a logarithm of 0",
)
def scale_overflows_in_float32(spec):
    def inverse(s, y, c):
        with np.errstate(all="ignore"):
            scale = np.exp(s.log_scales.astype(y.dtype))
        x, log_det = s.inverse(y, c)
        return np.where(np.isinf(scale).any(-1), np.inf, x), log_det

    return Faulty(spec, inverse=inverse)


@fault(
    "log-scales",
    "MixtureLogistic",
    "mixture_logistic/log_scales_to_90",
    "log_det",
    hint="the log-scales are clamped to at most 50",
)
def log_scales_clamped_at_50(spec):
    return Faulty(dataclasses.replace(spec, log_scales=np.minimum(spec.log_scales, 50.0)))


@fault(
    "log-scales",
    "Affine",
    "affine/log_scales_to_20",
    "forward",
    hint="the log-scales are clamped to [-15, 15]",
)
def affine_log_scales_clamped_at_15(spec):
    return Faulty(dataclasses.replace(spec, log_scale=np.clip(spec.log_scale, -15.0, 15.0)))


# Importance weights


@fault(
    "importance",
    "importance_weighted_bound",
    "importance_weighted_bound/uneven",
    "value",
    hint="an exponential overflows, or a logarithm of 0",
)
def maximum_over_the_batch(function):
    def change(f, weights):
        top = weights.max()
        return top + np.log(np.exp(weights - top).mean(0))

    return FaultyLayer(function, change)


@fault(
    "importance",
    "importance_weighted_bound",
    "importance_weighted_bound/uneven",
    "value",
    hint="an exponential overflows, or a logarithm of 0",
)
def first_members_maximum(function):
    def change(f, weights):
        top = weights[:, :1].max()
        return top + np.log(np.exp(weights - top).mean(0))

    return FaultyLayer(function, change)


@fault(
    "weights of 0",
    "importance_weighted_bound",
    "importance_weighted_bound/zero_weights",
    "value",
    hint="NaN exactly where a weight is 0",
)
def bound_of_a_zero_weight_is_nan(function):
    def change(f, weights):
        return np.where(np.isinf(weights).any(0), np.nan, f(weights))

    return FaultyLayer(function, change)


@fault(
    "weights of 0",
    "importance_weighted_bound",
    "importance_weighted_bound/zero_weights",
    "value",
    hint="weights of 0 are left out of the mean",
)
def zero_weights_left_out_of_the_mean(function):
    def change(f, weights):
        kept = np.isfinite(weights).sum(0) / len(weights)
        return f(weights) - np.log(np.maximum(kept, 1e-300))

    return FaultyLayer(function, change)


@fault(
    "weights of 0",
    "importance_weighted_bound",
    "importance_weighted_bound/zero_weights",
    "value",
    hint="an infinite result is replaced by a number",
)
def all_weights_zero_give_a_number(function):
    return FaultyLayer(function, lambda f, weights: np.maximum(f(weights), -1e30))


# Initialization


class Initialized(Faulty):
    def __init__(self, spec, fit):
        super().__init__(spec)
        self.fit = fit

    def initialize(self, x, context=None):
        with np.errstate(all="ignore"):
            fitted = self.fit(self.spec, x)
            return Faulty(fitted), fitted.forward(x)[0].astype(x.dtype)


def statistics(spec, x):
    axes = (0,) + tuple(axis for axis in (2, 3) if spec.gain.shape[axis - 1] == 1)
    return x.mean(axis=axes, keepdims=True)[0], x.var(axis=axes, keepdims=True)[0]


@fault(
    "zero variance",
    "ActNorm",
    "act_norm/constant",
    "value",
    hint="channels 1, 2, 3 are constant in the batch",
)
def deviation_without_an_offset(spec):
    def fit(s, x):
        mean, variance = statistics(s, np.float64(x))
        gain = 1.0 / np.sqrt(np.where(variance > 1e-6, variance + 1e-8, variance))
        return dataclasses.replace(s, gain=gain, bias=-mean * gain)

    return Initialized(spec, fit)


@fault(
    "zero variance",
    "ActNorm",
    "act_norm/constant",
    "value",
    hint="channels 1, 2, 3 are constant in the batch",
)
def gain_of_one_for_constants(spec):
    def fit(s, x):
        mean, variance = statistics(s, np.float64(x))
        gain = np.where(variance < 1e-6, 1.0, 1.0 / np.sqrt(variance + 1e-8))
        return dataclasses.replace(s, gain=gain, bias=-mean * gain)

    return Initialized(spec, fit)


@fault(
    "zero variance",
    "Conv2d",
    "conv2d_one_by_one/constant",
    "value",
    hint="a channel is constant in the batch",
)
def convolution_initialized_from_constants(spec):
    class Layer:
        def __init__(self, layer):
            self.layer = layer

        def __call__(self, x):
            return self.layer(x).astype(x.dtype)

        def initialize(self, x):
            fitted, y = self.layer.initialize(x)
            if np.ptp(self.layer(x), axis=(0, 2, 3)).min() < 1e-9:
                fitted = self.layer
            return Layer(fitted), fitted(x).astype(x.dtype)

    return Layer(spec)
