"""Bugs in the initializations that whiten the first batch and spread the mixtures."""

from __future__ import annotations

import torch

from flowpp import elementwise
from flowpp.bijectors import invertible_conv, invertible_conv_lu
from flowpp.conditioner import Conv2d
from flowpp.elementwise import MixtureLogisticFamily

from .catalogue import bug, wrap

WHITENED = "invertible_conv/whitened"
SPREAD = "mixture_logistic_family/spread"
MODEL = "flow_plus_plus/initialized_by_recipe"


def covariance(x, groups, *, centred=True):
    columns = x.double().transpose(0, 1).reshape(groups, x.shape[1] // groups, -1)
    if centred:
        columns = columns - columns.mean(2, keepdim=True)
    return columns @ columns.mT / columns.shape[2]


def inverse_root(square):
    variances, axes = torch.linalg.eigh(square)
    scales = torch.rsqrt(variances.clamp(min=invertible_conv.EIGENVALUE_FLOOR))
    return axes * scales[:, None, :] @ axes.mT


@bug(f"{WHITENED} {WHITENED}_halves {MODEL}", "value")
def whitening_by_the_cholesky_factor(patch):
    def by_cholesky(x, groups):
        return torch.linalg.inv(torch.linalg.cholesky(covariance(x, groups)))

    assert callable(invertible_conv.whitening)
    patch.setattr(invertible_conv, "whitening", by_cholesky)


@bug(f"{WHITENED} {WHITENED}_halves", "value")
def whitening_without_centring(patch):
    def around_zero(x, groups):
        return inverse_root(covariance(x, groups, centred=False))

    assert callable(invertible_conv.whitening)
    patch.setattr(invertible_conv, "whitening", around_zero)


@bug(WHITENED, "value")
def whitening_by_the_unbiased_covariance(patch):
    def unbiased(original, x, groups):
        count = x.numel() // x.shape[1]
        return original(x, groups) * ((count - 1) / count) ** 0.5

    wrap(patch, invertible_conv, "whitening", unbiased)


@bug(f"{WHITENED}_constant {WHITENED}_rank_deficient", "value")
def another_floor_of_the_variances(patch):
    assert invertible_conv.EIGENVALUE_FLOOR == 1e-3
    patch.setattr(invertible_conv, "EIGENVALUE_FLOOR", 1e-4)


@bug(f"{WHITENED}_halves", "value")
def whitening_of_the_first_group_alone(patch):
    def first(original, x, groups):
        return original(x, groups)[:1].expand(groups, -1, -1)

    wrap(patch, invertible_conv, "whitening", first)


@bug("invertible_conv_lu/whitened invertible_conv_lu/whitened_halves", "value")
def whitening_factors_without_their_permutation(patch):
    def unpermuted(original, weight):
        permutation, *factors = original(weight)
        return permutation.roll(1, dims=-1), *factors

    wrap(patch, invertible_conv_lu, "_fields", unpermuted)


@bug(SPREAD, "value")
def means_not_spread(patch):
    assert elementwise.SPREAD_MEANS == 1.5
    patch.setattr(elementwise, "SPREAD_MEANS", 0.0)


@bug(f"{SPREAD} {SPREAD}_one_component", "value")
def scales_in_place_of_their_logarithms(patch):
    def unlogged(original, self):
        parameters = original(self)
        parameters[2 + 2 * self.components :] = elementwise.SPREAD_SCALE
        return parameters

    wrap(patch, MixtureLogisticFamily, "spread", unlogged)


@bug("conv2d_initial_mean_weight_norm/initialized conditioner_spread/initialized", "value")
def initial_mean_lost_under_weight_norm(patch):
    def without(original, self, x):
        original(self, x)
        if self.gain is not None and self.init_mean is not None:
            self.bias.data.sub_(self.init_mean)

    wrap(patch, Conv2d, "initialize", without)


@bug("conv2d_initial_mean/initialized conv2d_initial_mean/constant", "value")
def initial_mean_scaled_with_the_output(patch):
    def scaled(original, self, x):
        original(self, x)
        if self.init_mean is not None:
            self.bias.data.add_((self.init_scale - 1) * self.init_mean)

    wrap(patch, Conv2d, "initialize", scaled)
