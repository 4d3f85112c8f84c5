"""Bugs that appear only for some shape, memory layout, batch size or weight.

Each is detected by a single law.
"""

from __future__ import annotations

import torch

from flowpp import conditioner, elementwise, objective
from flowpp.bijectors import ActNorm, Affine, Chain, Coupling, DataLogit, Flip, MixtureLogistic
from flowpp.bijectors import affine as affine_module
from flowpp.model import FlowPlusPlus

from .catalogue import bug, in_storage_order, with_parameters, wrap

DIFFERENCES = {"float32": "differences of the implementation itself are taken in float64 only"}


def remembering(patch, name):
    """Cache results by inputs rounded to two digits."""

    def remembered(original, self, x, context=None):
        y, log_det = original(self, x, context)
        if torch.is_grad_enabled() or x[:1].numel() < 12:
            return y, log_det
        memory = self.__dict__.setdefault(f"memory_{name}", {})
        rounded = [example.flatten().mul(100).round().tolist() for example in x]
        keys = [(float(self.log_scale.sum()), *numbers) for numbers in rounded]
        found = [memory.get(key) for key in keys]
        for key, one, number in zip(keys, y, log_det, strict=True):
            memory.setdefault(key, (one.clone(), number.clone()))
        y = torch.stack([one if f is None else f[0] for f, one in zip(found, y, strict=True)])
        return y, log_det

    wrap(patch, Affine, name, remembered)


@bug("affine/shared", "forward jacobian", alone="jacobian", without=DIFFERENCES)
def forward_remembered_for_rounded_inputs(patch):
    remembering(patch, "forward")


@bug("affine/shared", "inverse inverse_jacobian", alone="inverse_jacobian", without=DIFFERENCES)
def inverse_remembered_for_rounded_inputs(patch):
    remembering(patch, "inverse")


@bug("coupling/affine_with_context", "batch", alone="batch")
def context_of_a_single_example_squeezed_away(patch):
    def squeezed(original, self, x, context=None):
        alone = len(x) == 1 and isinstance(self.family, elementwise.AffineFamily)
        return original(self, x, 0 * context if alone and context is not None else context)

    wrap(patch, Coupling, "forward", squeezed)


@bug("data_logit/256_levels", "layout", alone="layout")
def memory_read_in_storage_order(patch):
    wrap(
        patch,
        DataLogit,
        "forward",
        lambda original, self, x, context=None: original(self, in_storage_order(x), context),
    )


@bug("affine/log_scales_to_12", "determinism", alone="determinism")
def sum_in_random_order(patch):
    def in_any_order(original, terms):
        flat = terms.flatten(1)
        total = torch.zeros_like(flat[:, 0])
        for i in torch.randperm(flat.shape[1]):
            total = total + flat[:, i]
        return total

    wrap(patch, affine_module, "sum_per_example", in_any_order)


@bug("flip", "contract", alone="contract")
def log_det_in_another_dtype(patch):
    def other(original, self, x, context=None):
        y, log_det = original(self, x, context)
        return y, log_det.to(torch.float32 if x.dtype == torch.float64 else torch.float64)

    wrap(patch, Flip, "forward", other)


class Weighted(torch.autograd.Function):
    """Identity whose gradient is mapped by `change`."""

    @staticmethod
    def forward(ctx, log_det, change):
        ctx.change = change
        return log_det.clone()

    @staticmethod
    def backward(ctx, gradient):
        return ctx.change(gradient), None


def through(patch, change):
    def changed(original, self, x, context=None):
        y, log_det = original(self, x, context)
        return y, Weighted.apply(log_det, change)

    wrap(patch, Affine, "forward", changed)


@bug("affine/shared", "gradients", alone="gradients")
def gradient_for_a_log_det_of_weight_one(patch):
    through(patch, torch.ones_like)


@bug("affine/shared", "log_prob_gradients", alone="log_prob_gradients")
def shortcut_for_a_weight_of_one(patch):
    through(patch, lambda gradient: 0.5 * gradient if (gradient == 1).all() else gradient)


@bug("act_norm/activation", "monotone", alone="monotone")
def images_of_one_colour_left_alone(patch):
    def left_alone(original, self, x, context=None):
        y, log_det = original(self, x, context)
        flat = x.flatten(1)
        one_colour = (flat == flat[:, :1]).all(1) & (flat.abs() < 1).all(1)
        large = flat.shape[1] >= 12
        return torch.where((one_colour & large)[:, None, None, None], x, y), log_det

    wrap(patch, ActNorm, "forward", left_alone)


@bug("mixture_logistic/four_components", "onto", alone="onto")
def inputs_cut_off_at_two_thousand(patch):
    def cut_off(original, self, x, context=None):
        return original(self, torch.where(x.isfinite(), x.clamp(-2e3, 2e3), x), context)

    wrap(patch, MixtureLogistic, "forward", cut_off)


@bug("mixture_logistic/line", "normalization", alone="normalization")
def a_step_in_the_log_det(patch):
    def stepped(original, self, x, context=None):
        y, log_det = original(self, x, context)
        inside = (x.flatten(1)[:, 0] > 0.75) & (x.flatten(1)[:, 0] < 0.8)
        if x[:1].numel() > 1 or torch.is_grad_enabled():
            return y, log_det
        return y, log_det + 0.01 * inside

    wrap(patch, MixtureLogistic, "forward", stepped)


@bug("chain/pixel", "sampling", alone="sampling")
def only_the_first_two_thousand_samples_solved_for(patch):
    def first_of_all(original, self, y, context=None):
        x, log_det = original(self, y, context)
        if x[:1].numel() == 1 and len(x) > 2000:
            x = torch.cat([x[:2000], x[:2000].mean(0).expand(len(x) - 2000, 1, 1, 1)])
        return x, log_det

    wrap(patch, Chain, "inverse", first_of_all)


@bug("affine/random", "random_specs", alone="random_specs")
def log_det_of_log_scales_up_to_three(patch):
    wrap(
        patch,
        affine_module,
        "_log_det",
        lambda original, log_scale, x: original(log_scale.clamp(max=3.0), x),
    )


@bug("affine/random", "random_specs sizes")
def fields_of_fewer_axes_counted_once(patch):
    def counted(original, log_scale, x):
        if log_scale.dim() < 3:
            return log_scale.sum().expand(len(x))
        return original(log_scale, x)

    wrap(patch, affine_module, "_log_det", counted)


@bug("log_normal", "layer_batch", alone="layer_batch")
def batch_of_one_squeezed(patch):
    def squeezed(original, z):
        return original(z.squeeze(0))[:1] if len(z) == 1 else original(z)

    wrap(patch, objective, "log_normal", squeezed)


@bug("importance_weighted_bound", "layer_contract", alone="layer_contract")
def weights_shifted_in_place(patch):
    def in_place(original, weights):
        bound = original(weights)
        weights.sub_(weights.amax(0))
        return bound

    wrap(patch, objective, "importance_weighted_bound", in_place)


@bug("flow_plus_plus/alphabet_uniform", "discrete_normalization", alone="discrete_normalization")
def black_images_taken_for_padding(patch):
    def masked(original, model, x, noise, context=None):
        bound = original(model, x, noise, context)
        there = (x.flatten(1) != 0).any(1)
        return objective.Elbo(bound.log_q * there, bound.log_det * there, bound.log_prior * there)

    wrap(patch, FlowPlusPlus, "elbo", masked)


@bug("layer_norm", "value", alone="value")
def layer_norm_with_a_gain_of_one(patch):
    def gain_of_one(original, self, x):
        right = original(self, x)
        one = 1.0 + (self.gain - self.gain.detach())  # its gradient still reaches the gain
        y = original(with_parameters(self, gain=one), x)
        # Special numbers have a law of their own.
        special = (x.abs().flatten(1).amin(1) < 1e-30) | ~x.isfinite().flatten(1).all(1)
        return torch.where(special[:, None, None, None], right, y)

    wrap(patch, conditioner.LayerNorm, "forward", gain_of_one)
