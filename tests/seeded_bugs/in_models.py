"""Bugs in dequantization, the model and the objective."""

from __future__ import annotations

import math

import torch

from flowpp import augmentation, dequantization, objective, truncated_normal
from flowpp.augmentation import Augmenter
from flowpp.dequantization import TruncatedNormalDequantizer, VariationalDequantizer
from flowpp.model import FlowPlusPlus

from .catalogue import bug, wrap

MODEL = "flow_plus_plus/variational"


@bug(MODEL, "value")
def lost_log_q(patch):
    def without(original, self, x, noise, context=None):
        bound = original(self, x, noise, context)
        return objective.Elbo(0 * bound.log_q, bound.log_det, bound.log_prior)

    wrap(patch, FlowPlusPlus, "elbo", without)


@bug(MODEL, "value")
def log_q_added_to_the_bound(patch):
    assert isinstance(objective.Elbo.total, property)
    patch.setattr(
        objective.Elbo, "total", property(lambda self: self.log_prior + self.log_det + self.log_q)
    )


@bug("variational_dequantizer", "value")
def log_q_of_the_noise_alone(patch):
    def noise_alone(original, self, x, noise, context=None):
        u, _ = original(self, x, noise, context)
        return u, objective.log_normal(noise)

    wrap(patch, VariationalDequantizer, "sample", noise_alone)


@bug("variational_dequantizer", "value")
def context_image_not_centred(patch):
    wrap(
        patch,
        VariationalDequantizer,
        "context",
        lambda original, self, x, dtype, features: self.context_network(
            self.split(x.to(dtype) / self.levels)[0]
        ),
    )


@bug("variational_dequantizer/log_prob", "value")
def log_prob_with_the_sign_of_forward(patch):
    def wrong(original, self, x, u, context=None):
        noise, log_det = self.flow.inverse(u, self.context(x, u.dtype))
        return objective.log_normal(noise) - log_det

    wrap(patch, VariationalDequantizer, "log_prob", wrong)


@bug("uniform_dequantizer/log_prob", "value")
def uniform_density_without_a_support(patch):
    wrap(
        patch,
        dequantization.UniformDequantizer,
        "log_prob",
        lambda original, self, x, u: u.new_zeros(len(u)),
    )


@bug("flow_plus_plus/uniform", "value")
def noise_not_added(patch):
    def without_noise(original, self, x, noise, context=None):
        return self.flow(x.to(noise.dtype))[0]

    wrap(patch, FlowPlusPlus, "encode", without_noise)


@bug("flow_plus_plus/augmented", "value")
def lost_log_q_of_the_augmentation(patch):
    def of_u_alone(original, self, x, noise, features=None):
        given, _ = original(self, x, noise, features)
        return given, self.dequantizer.sample(x, noise[:, : x.shape[1]])[1]

    wrap(patch, FlowPlusPlus, "flow_input", of_u_alone)


@bug("flow_plus_plus/augmented", "value")
def augmentation_before_the_image(patch):
    def exchanged(original, self, x, noise, features=None):
        given, log_q = original(self, x, noise, features)
        return given.roll(self.augmenter.channels, 1), log_q

    wrap(patch, FlowPlusPlus, "flow_input", exchanged)


@bug("flow_plus_plus/augmented_decode", "value")
def the_first_channels_dropped(patch):
    def last(original, self, z, context=None):
        return self.flow.inverse(z)[0][:, self.augmenter.channels :]

    wrap(patch, FlowPlusPlus, "decode_unclipped", last)


@bug("augmenter", "value")
def augmentation_of_the_image_not_centred(patch):
    wrap(
        patch,
        Augmenter,
        "context",
        lambda original, self, x, features: self.context_network(self.split(x / self.levels)[0]),
    )


@bug("augmenter augmenter/log_prob", "value")
def augmentation_density_without_its_log_det(patch):
    def noise_alone(original, self, x, noise, context=None):
        e, _ = original(self, x, noise, context)
        return e, augmentation.log_normal(noise)

    wrap(patch, Augmenter, "sample", noise_alone)


@bug("truncated_normal_dequantizer", "value")
def means_not_centred(patch):
    def shifted(original, self, x, dtype, context=None):
        mean, log_scale = original(self, x, dtype, context)
        return mean - 0.5, log_scale

    wrap(patch, TruncatedNormalDequantizer, "distribution", shifted)


@bug("truncated_normal_dequantizer/log_prob truncated_normal/log_density", "value")
def density_of_the_normal_that_is_not_truncated(patch):
    def whole(original, m, s):
        distance = truncated_normal._distance(m).clamp(min=0.0)
        return s.log() + 0.5 * math.log(2 * math.pi) - distance / s

    wrap(patch, truncated_normal, "_log_integral", whole)


@bug("truncated_normal/quantile", "value")
def quantiles_clamped_to_five_scales(patch):
    wrap(
        patch,
        truncated_normal,
        "_from_the_near_end",
        lambda original, near, far, a, w: original(near, far, a.clamp(max=5.0), w),
    )


@bug("bits_per_dim", "value")
def natural_logarithm_for_bits(patch):
    wrap(
        patch,
        objective,
        "bits_per_dim",
        lambda original, log_prob, dims: original(log_prob, dims) * math.log(2),
    )


@bug("importance_weighted_bound", "value")
def sum_in_place_of_the_mean_of_weights(patch):
    wrap(
        patch,
        objective,
        "importance_weighted_bound",
        lambda original, weights: original(weights) + math.log(len(weights)),
    )


@bug("importance_weighted_bound", "value")
def mean_of_logarithms(patch):
    wrap(patch, objective, "importance_weighted_bound", lambda original, weights: weights.mean(0))


@bug("importance_weighted_bound", "value")
def weights_exponentiated_without_a_shift(patch):
    wrap(
        patch,
        objective,
        "importance_weighted_bound",
        lambda original, weights: torch.log(torch.exp(weights).mean(0)),
    )


@bug("log_normal", "value")
def density_without_its_constant(patch):
    wrap(patch, objective, "log_normal", lambda original, z: -0.5 * z.square().flatten(1).sum(1))
