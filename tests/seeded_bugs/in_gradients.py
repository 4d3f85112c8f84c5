"""Bugs of training alone: a value that is right, passed on without its gradient."""

from __future__ import annotations

from flowpp.augmentation import Augmenter
from flowpp.dequantization import TruncatedNormalDequantizer, VariationalDequantizer
from flowpp.model import FlowPlusPlus

from .catalogue import bug, wrap

MODEL = "flow_plus_plus/variational"


def detached_u(original, self, x, noise, context=None):
    u, log_q = original(self, x, noise, context)
    return u.detach(), log_q


def detached_log_q(original, self, x, noise, context=None):
    u, log_q = original(self, x, noise, context)
    return u, log_q.detach()


@bug(MODEL, "bound_gradients", alone="bound_gradients")
def dequantizer_trained_by_its_entropy_alone(patch):
    wrap(patch, VariationalDequantizer, "sample", detached_u)


@bug(MODEL, "bound_gradients", alone="bound_gradients")
def dequantizer_trained_without_its_entropy(patch):
    wrap(patch, VariationalDequantizer, "sample", detached_log_q)


@bug(MODEL, "bound_gradients")
def context_network_not_trained(patch):
    def detached(original, self, x, dtype, features=None):
        return original(self, x, dtype, features).detach()

    wrap(patch, VariationalDequantizer, "context", detached)


@bug("flow_plus_plus/truncated_normal", "bound_gradients")
def quantile_without_a_gradient(patch):
    wrap(patch, TruncatedNormalDequantizer, "sample", detached_u)


@bug("flow_plus_plus/augmented", "bound_gradients")
def augmentation_not_trained_by_the_flow(patch):
    wrap(patch, Augmenter, "sample", detached_u)


@bug("flow_plus_plus/colour_by_vector", "bound_gradients")
def dequantizer_not_trained_by_the_augmentation(patch):
    def detached(original, self, x, features=None):
        return original(self, x.detach(), features)

    wrap(patch, Augmenter, "context", detached)


@bug("flow_plus_plus/by_label", "bound_gradients")
def embedding_not_trained(patch):
    def detached(original, self, context, image_shape):
        return original(self, context, image_shape).detach()

    wrap(patch, FlowPlusPlus, "features", detached)
