"""Bugs in dequantization, the model and the objective."""

from __future__ import annotations

import math

import torch

from flowpp import dequantization, objective
from flowpp.dequantization import VariationalDequantizer
from flowpp.model import FlowPlusPlus

from .catalogue import bug, wrap

MODEL = "flow_plus_plus/variational"


@bug(MODEL, "value")
def lost_log_q(patch):
    def without(original, self, x, noise):
        bound = original(self, x, noise)
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
    def noise_alone(original, self, x, noise):
        u, _ = original(self, x, noise)
        return u, objective.log_normal(noise)

    wrap(patch, VariationalDequantizer, "sample", noise_alone)


@bug("variational_dequantizer", "value")
def context_image_not_centred(patch):
    wrap(
        patch,
        VariationalDequantizer,
        "context",
        lambda original, self, x, dtype: self.context_network(
            self.split(x.to(dtype) / self.levels)[0]
        ),
    )


@bug("variational_dequantizer/log_prob", "value")
def log_prob_with_the_sign_of_forward(patch):
    def wrong(original, self, x, u):
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
    def without_noise(original, self, x, noise):
        return self.flow(x.to(noise.dtype))[0]

    wrap(patch, FlowPlusPlus, "encode", without_noise)


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
