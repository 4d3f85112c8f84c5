"""Bugs in the logistic mixture, its inverse and its parameters."""

from __future__ import annotations

import math

import torch

from flowpp import elementwise
from flowpp.bijectors import MixtureLogistic
from flowpp.bijectors import mixture_logistic as mixture_module

from .catalogue import bug, negated, wrap


@bug("mixture_logistic/four_components", "inverse_log_det opposite inverse_jacobian")
def wrong_sign_of_the_inverse_log_det(patch):
    wrap(patch, MixtureLogistic, "inverse", negated)


def clamped(y, smallest):
    bound = math.log(1 - smallest) - math.log(smallest)
    return y.clamp(-bound, bound)


@bug("mixture_logistic/four_components", "forward round_trip_x")
def cdf_clamped_at_1e_5_forward(patch):
    def logit_cdf(original, *arguments):
        y, log_derivative = original(*arguments)
        return clamped(y, 1e-5), log_derivative

    wrap(patch, mixture_module, "logit_cdf", logit_cdf)


@bug("mixture_logistic/four_components", "inverse round_trip_x")
def cdf_clamped_at_1e_5_inverse(patch):
    wrap(
        patch,
        mixture_module,
        "inverse_logit_cdf",
        lambda original, y, *parameters: original(clamped(y, 1e-5), *parameters),
    )


@bug("mixture_logistic/four_components", "inverse round_trip_x")
def cdf_clamped_at_1e_12_inverse(patch):
    wrap(
        patch,
        mixture_module,
        "inverse_logit_cdf",
        lambda original, y, *parameters: original(clamped(y, 1e-12), *parameters),
    )


@bug("mixture_logistic/four_components", "forward log_det contract")
def cdf_formed_before_its_logit(patch):
    def logit_cdf(x, logits, means, log_scales):
        z = (x.unsqueeze(-1) - means) * torch.exp(-log_scales)
        lw = torch.log_softmax(logits, -1)
        cdf = (lw.exp() * torch.sigmoid(z)).sum(-1)
        log_density = torch.logsumexp(
            lw
            - log_scales
            + torch.nn.functional.logsigmoid(z)
            + torch.nn.functional.logsigmoid(-z),
            -1,
        )
        return torch.logit(cdf), log_density - torch.log(cdf) - torch.log(1 - cdf)

    assert callable(mixture_module.logit_cdf)
    patch.setattr(mixture_module, "logit_cdf", logit_cdf)


def bisected(steps):
    def inverse_logit_cdf(y, logits, means, log_scales):
        shape = (*y.shape, logits.shape[-1])
        logits, means, log_scales = (p.expand(shape) for p in (logits, means, log_scales))
        roots = means + y.unsqueeze(-1) * torch.exp(log_scales)
        lower, upper = roots.amin(-1) - 1e-3, roots.amax(-1) + 1e-3
        for _ in range(steps):
            middle = (lower + upper) / 2
            low = mixture_module.logit_cdf(middle, logits, means, log_scales)[0] < y
            lower, upper = torch.where(low, middle, lower), torch.where(low, upper, middle)
        return (lower + upper) / 2

    return inverse_logit_cdf


@bug(
    "mixture_logistic/four_components mixture_logistic/log_scales_-12_to_6", "inverse round_trip_x"
)
def twenty_steps_of_bisection(patch):
    assert callable(mixture_module.inverse_logit_cdf)
    patch.setattr(mixture_module, "inverse_logit_cdf", bisected(20))


@bug("mixture_logistic/four_components", "inverse_gradients")
def unrolled_bisection_without_gradient(patch):
    assert callable(mixture_module.inverse_logit_cdf)
    patch.setattr(mixture_module, "inverse_logit_cdf", bisected(100))


@bug("mixture_logistic/four_components", "inverse_gradients", alone="inverse_gradients")
def inverse_cut_off_from_the_graph(patch):
    wrap(
        patch,
        mixture_module,
        "inverse_logit_cdf",
        lambda original, *arguments: original(*arguments).detach(),
    )


@bug("mixture_logistic/four_components", "gradients")
def log_det_cut_off_from_the_graph(patch):
    def detached(original, self, x, context=None):
        y, log_det = original(self, x, context)
        return y, log_det.detach()

    wrap(patch, MixtureLogistic, "forward", detached)


@bug("mixture_logistic/large_logits mixture_logistic/four_components", "forward")
def logits_not_normalized(patch):
    def unnormalized(x, logits, means, log_scales):
        z = (x.unsqueeze(-1) - means) * torch.exp(-log_scales)
        log_cdf = torch.logsumexp(logits + torch.nn.functional.logsigmoid(z), -1)
        log_rest = torch.logsumexp(torch.nn.functional.logsigmoid(-z), -1)
        return log_cdf - log_rest, log_cdf

    assert callable(mixture_module.logit_cdf)
    patch.setattr(mixture_module, "logit_cdf", unnormalized)


@bug("coupling/mixture", "forward")
def means_and_logits_exchanged(patch):
    def exchanged(original, x, parameters, floor):
        count = parameters.shape[-1] // 3
        leading, logits, means, log_scales = parameters.split([2, count, count, count], -1)
        return original(x, torch.cat([leading, means, logits, log_scales], -1), floor)

    wrap(patch, elementwise, "packed_logit_cdf", exchanged)


@bug("coupling/mixture_narrow", "forward log_det")
def log_scale_floor_always_on(patch):
    def floored(original, self, components, log_scale_floor=None):
        original(self, components, -7.0)

    wrap(patch, elementwise.MixtureLogisticFamily, "__init__", floored)


@bug("coupling/mixture_floor", "forward")
def log_scale_floor_never_on(patch):
    def unfloored(original, self, components, log_scale_floor=None):
        original(self, components, None)

    wrap(patch, elementwise.MixtureLogisticFamily, "__init__", unfloored)
