"""Adapter of TensorFlow Probability: its bijectors in JAX, without TensorFlow."""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from tensorflow_probability.substrates.jax import bijectors as tfb
from tensorflow_probability.substrates.jax import tf2jax as tf

from conformance.adapters.spec_view import Pair, SpecView, check_affine

from .jax_arrays import (
    JaxLibraryAdapter,
    in_groups_last,
    inverse_pixel_order,
    per_example,
    pixel_order,
)

IMAGE_DIMS = 3


class TfpAdapter(JaxLibraryAdapter):
    """`Scale`, `Shift`, `Sigmoid`, `ScaleMatvecLU`, `Permute`, `RealNVP`, `Chain`, ...

    A log-det that is the same for all examples has no batch axis in TFP; it is broadcast.
    """

    library = "tfp"
    absent = {"mixture_logistic": "MixtureSameFamily is a distribution, without a bijector"}

    def affine(self, fields: SpecView) -> Pair:
        scale = tfb.Scale(log_scale=fields.log_scale)
        return _pair(tfb.Chain([tfb.Shift(fields.shift), scale]))

    def act_norm(self, fields: SpecView) -> Pair:
        scale = tfb.Scale(scale=jnp.maximum(fields.gain, 1e-10))
        return _pair(tfb.Chain([tfb.Shift(fields.bias), scale]))

    def sigmoid(self, fields: SpecView) -> Pair:
        return _pair(tfb.Sigmoid())

    def data_logit(self, fields: SpecView) -> Pair:
        """Invert a sigmoid onto the interval in which 0 < p < 1."""
        outside = fields.levels * fields.margin / (1 - 2 * fields.margin)
        low, high = self.array(-outside), self.array(fields.levels + outside)
        return _pair(tfb.Invert(tfb.Sigmoid(low=low, high=high)))

    def invertible_conv(self, fields: SpecView) -> Pair:
        operators = [
            tf.linalg.LinearOperatorFullMatrix(weight, is_non_singular=True)
            for weight in fields.weight
        ]
        return _linear([tfb.ScaleMatvecLinearOperator(operator) for operator in operators])

    def invertible_conv_lu(self, fields: SpecView) -> Pair:
        size = fields.lower.shape[-1]
        diagonal = (fields.signs * jnp.exp(fields.log_diagonal))[..., None] * jnp.eye(size)
        matrices = jnp.tril(fields.lower, -1) + jnp.triu(fields.upper, 1) + diagonal
        permutations = np.argsort(fields.spec.permutation).astype("int32")
        groups = zip(matrices, permutations, strict=True)
        return _linear([tfb.ScaleMatvecLU(*group) for group in groups])

    def channel_split(self, fields: SpecView) -> Pair:
        return _pair(tfb.Identity())

    def flip(self, fields: SpecView) -> Pair:
        def side(index: int) -> Any:
            def apply(x: Any, context: Any) -> tuple[Any, Any]:
                channels = np.roll(np.arange(x.shape[1], dtype="int32"), x.shape[1] // 2)
                return _pair(tfb.Permute(channels, axis=-IMAGE_DIMS))[index](x, context)

            return apply

        return side(0), side(1)

    def squeeze(self, fields: SpecView) -> Pair:
        return _permutation(fields.spec)

    def checkerboard(self, fields: SpecView) -> Pair:
        return _permutation(fields.spec)

    def column_stripes(self, fields: SpecView) -> Pair:
        return _permutation(fields.spec)

    def chain(self, fields: SpecView) -> Pair:
        return super().chain(fields) if fields.bijectors else _pair(tfb.Chain([]))

    def coupling(self, fields: SpecView) -> Pair:
        """Flatten images to vectors, whose first half is the first half of the channels."""
        check_affine(fields, self.library)

        def transform(x: Any, context: Any) -> Any:
            half = (len(x), x.shape[1] // 2, *x.shape[2:])

            def network(a: Any, units: int) -> tuple[Any, Any]:
                raw = self.raw(fields, a.reshape(half), context).reshape(len(x), units, 2)
                return raw[..., 1], jnp.tanh(raw[..., 0])

            return _flattened(
                tfb.RealNVP(math.prod(x.shape[1:]) // 2, shift_and_log_scale_fn=network), x
            )

        def forward(x: Any, context: Any) -> tuple[Any, Any]:
            return _pair(transform(x, context))[0](x, context)

        def inverse(y: Any, context: Any) -> tuple[Any, Any]:
            return _pair(transform(y, context))[1](y, context)

        return forward, inverse


def _pair(bijector: Any) -> Pair:
    """Apply a bijector to events of three axes."""

    def forward(x: Any, context: Any) -> tuple[Any, Any]:
        y = bijector.forward(x)
        return y, per_example(bijector.forward_log_det_jacobian(x, event_ndims=IMAGE_DIMS), x)

    def inverse(y: Any, context: Any) -> tuple[Any, Any]:
        x = bijector.inverse(y)
        return x, per_example(bijector.inverse_log_det_jacobian(y, event_ndims=IMAGE_DIMS), y)

    return forward, inverse


def _linear(bijectors: list[Any]) -> Pair:
    """Apply a linear map of vectors to each group of channels, at every position."""

    def side(index: int) -> Any:
        def apply(x: Any) -> tuple[Any, Any]:
            groups = jnp.moveaxis(x, -2, 0)
            parts = [
                _pair(bijector)[index](group, None)
                for bijector, group in zip(bijectors, groups, strict=True)
            ]
            y = jnp.stack([part[0] for part in parts], axis=-2)
            return y, jnp.stack([part[1] for part in parts]).sum(0)

        return in_groups_last(apply, len(bijectors))

    return side(0), side(1)


def _flattened(bijector: Any, x: Any) -> Any:
    """Return a bijector of images that computes with vectors."""
    size = math.prod(x.shape[1:])
    flatten = tfb.Reshape(event_shape_out=[size], event_shape_in=list(x.shape[1:]))
    return tfb.Chain([tfb.Invert(flatten), bijector, flatten])


def _permutation(spec: Any) -> Pair:
    """Permute whole images, as vectors, in the specification's order."""

    def transform(places: np.ndarray, before: Any, after: Any) -> Pair:
        size = len(places)  # a size of -1 cannot be inferred for an empty batch
        return _pair(
            tfb.Chain(
                [
                    tfb.Reshape(event_shape_out=list(after), event_shape_in=[size]),
                    tfb.Permute(places.astype("int32")),
                    tfb.Reshape(event_shape_out=[size], event_shape_in=list(before)),
                ]
            )
        )

    def forward(x: Any, context: Any) -> tuple[Any, Any]:
        places, shape = pixel_order(spec, x.shape[1:])
        return transform(places, x.shape[1:], shape)[0](x, context)

    def inverse(y: Any, context: Any) -> tuple[Any, Any]:
        places, shape = inverse_pixel_order(spec, y.shape[1:])
        return transform(places, shape, y.shape[1:])[1](y, context)

    return forward, inverse
