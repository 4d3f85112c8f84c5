"""Bugs in conditional models: contexts that are lost, exchanged or misplaced."""

from __future__ import annotations

import torch

from flowpp import dequantization
from flowpp.bijectors.lifted_context import LiftedContext
from flowpp.context import LabelEncoder, VectorEncoder
from flowpp.model import FlowPlusPlus

from .catalogue import bug, wrap

MODELS = "flow_plus_plus/by_label flow_plus_plus/by_vector"


@bug(MODELS, "layer_batch value contexts")
def context_of_the_first_image_used_for_all(patch):
    def first(original, self, context, shape):
        return original(self, context[:1].expand_as(context), shape)

    wrap(patch, FlowPlusPlus, "features", first)


@bug(MODELS, "value contexts")
def context_ignored_in_the_inverse(patch):
    def ignored(original, self, y, context=None):
        return original(self, y, None if context is None else 0 * context)

    wrap(patch, LiftedContext, "inverse", ignored)


@bug("flow_plus_plus/by_label flow_plus_plus/by_image", "value contexts")
def context_ignored_in_the_dequantizer(patch):
    def ignored(original, centred, features):
        return original(centred, None if features is None else 0 * features)

    wrap(patch, dequantization, "beside_features", ignored)


@bug("flow_plus_plus/by_label label_encoder", "value contexts")
def labels_off_by_one(patch):
    def shifted(original, self, context, image_shape):
        return original(self, (context + 1) % len(self.embedding), image_shape)

    wrap(patch, LabelEncoder, "forward", shifted)


@bug("flow_plus_plus/alphabet_by_label", "discrete_normalization")
def probability_of_other_labels_with_their_noise(patch):
    """Give the flow features of another label than the dequantizer."""

    def exchanged(original, self, x, noise, context=None):
        bound = original(self, x, noise, context)
        if context is None:
            return bound
        other = original(self, x, noise, (context + 1) % len(self.context_encoder.embedding))
        return type(bound)(bound.log_q, other.log_det, other.log_prior)

    wrap(patch, FlowPlusPlus, "elbo", exchanged)


@bug(
    "lifted_context/squeeze_and_checkerboard flow/conditional",
    "forward log_det inverse inverse_log_det",
)
def features_lifted_by_the_wrong_permutation(patch):
    """Reverse the rows of the lifted features, as a lift of other splits would."""

    def reversed_rows(original, self, context):
        lifted = original(self, context)
        return None if lifted is None else lifted.flip(2)

    wrap(patch, LiftedContext, "_lifted", reversed_rows)


@bug("flow_plus_plus/by_label", "contexts", alone="contexts")
def none_taken_for_the_last_class(patch):
    def clamped(original, self, context, image_shape):
        return original(self, context.clamp(max=len(self.embedding) - 2), image_shape)

    wrap(patch, LabelEncoder, "forward", clamped)


@bug("flow_plus_plus/by_vector", "context_gradients", alone="context_gradients")
def gradient_stopped_before_the_features(patch):
    def stopped(original, self, context, image_shape):
        return original(self, context.detach() + 0 * context, image_shape)

    wrap(patch, VectorEncoder, "forward", stopped)


@bug("flow_plus_plus/by_vector_initialized", "value")
def vectors_standardized_by_a_constant_column(patch):
    def without_guard(original, self, context):
        original(self, context)
        vectors = context.to(self.weight.dtype)
        self.scale.copy_(torch.std(vectors, 0, correction=0) + 1e-3)

    wrap(patch, VectorEncoder, "initialize", without_guard)
