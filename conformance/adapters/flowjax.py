"""Adapter of flowjax: bijections in JAX, mapped over examples by `vmap`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flowjax.bijections as fb
import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg

from conformance.adapters.spec_view import Pair, SpecView

from .jax_arrays import JaxLibraryAdapter, inverse_pixel_order, pixel_order


class FlowjaxAdapter(JaxLibraryAdapter):
    """`Affine`, `Sigmoid`, `TriangularAffine`, `Householder`, `Permute`, `Invert`, `Chain`.

    flowjax's coupling makes its own network of vectors and accepts no other.
    """

    library = "flowjax"
    absent = {
        "coupling": "Coupling makes its own network of vectors and accepts no other",
        "channel_split": "no map is needed",
    }

    compiled = True  # mapping over entries one operation at a time is slow

    def affine(self, fields: SpecView) -> Pair:
        return _elementwise(
            lambda loc, scale: fb.Affine(loc, scale), fields.shift, jnp.exp(fields.log_scale)
        )

    def act_norm(self, fields: SpecView) -> Pair:
        gain = jnp.maximum(fields.gain, 1e-10)
        return _elementwise(lambda loc, scale: fb.Affine(loc, scale), fields.bias, gain)

    def sigmoid(self, fields: SpecView) -> Pair:
        return _elementwise(lambda _: fb.Sigmoid(), jnp.zeros(()))

    def data_logit(self, fields: SpecView) -> Pair:
        slope = (1 - 2 * fields.margin) / fields.levels

        def logit(margin: Any) -> Any:
            return fb.Chain([fb.Affine(margin, slope), fb.Invert(fb.Sigmoid())])

        return _elementwise(logit, jnp.asarray(fields.margin))

    def invertible_conv(self, fields: SpecView) -> Pair:
        # Permutation and signs are constants from the specification; the triangles are traced.
        decompositions = [scipy.linalg.lu(weight) for weight in fields.spec.weight]
        order = np.stack([permutation.argmax(-1) for permutation, _, _ in decompositions])
        signs = np.stack([np.sign(np.diag(upper)) for _, _, upper in decompositions])
        factors = [jax.scipy.linalg.lu(weight) for weight in fields.weight]
        lower, upper = (jnp.stack([factor[i] for factor in factors]) for i in (1, 2))
        size = abs(jnp.diagonal(upper, axis1=-2, axis2=-1))
        return self._linear(order, lower, upper, size, signs)

    def invertible_conv_lu(self, fields: SpecView) -> Pair:
        signs = fields.spec.signs
        return self._linear(
            fields.permutation, fields.lower, fields.upper, jnp.exp(fields.log_diagonal), signs
        )

    def flip(self, fields: SpecView) -> Pair:
        return self._permutation(fields)

    def squeeze(self, fields: SpecView) -> Pair:
        return self._permutation(fields)

    def checkerboard(self, fields: SpecView) -> Pair:
        return self._permutation(fields)

    def column_stripes(self, fields: SpecView) -> Pair:
        return self._permutation(fields)

    def _permutation(self, fields: SpecView) -> Pair:
        """Permute whole images in the specification's order, and reshape."""
        spec = fields.spec

        def forward(x: Any, context: Any) -> tuple[Any, Any]:
            places, shape = pixel_order(spec, x.shape[1:])
            permute = fb.Permute(places.reshape(x.shape[1:]))
            y, log_det = jax.vmap(permute.transform_and_log_det)(x)
            return y.reshape(len(x), *shape), log_det

        def inverse(y: Any, context: Any) -> tuple[Any, Any]:
            places, shape = inverse_pixel_order(spec, y.shape[1:])
            permute = fb.Permute(places.reshape(shape))
            return jax.vmap(permute.inverse_and_log_det)(y.reshape(len(y), *shape))

        return forward, inverse

    @staticmethod
    def _linear(permutation: Any, lower: Any, upper: Any, size: Any, signs: Any) -> Pair:
        """Use P L (U + S D) = P S (S L S) (S U + D): flowjax's diagonals are positive."""
        groups, channels = size.shape
        bijections = []
        for g in range(groups):
            sign = jnp.asarray(signs[g])
            above = jnp.triu(sign[:, None] * upper[g], 1) + jnp.diag(size[g])
            below = jnp.tril(sign[:, None] * lower[g] * sign, -1) + jnp.eye(channels)
            reflections = [
                fb.Householder(jnp.eye(channels)[i]) for i in np.flatnonzero(signs[g] < 0)
            ]
            bijections.append(
                fb.Chain(
                    [
                        fb.TriangularAffine(0, above, lower=False),
                        fb.TriangularAffine(0, below, lower=True),
                        *reflections,
                        fb.Permute(permutation[g]),
                    ]
                )
            )
        whole = bijections[0] if groups == 1 else fb.Concatenate(bijections)

        def side(function: Callable) -> Any:
            def apply(x: Any, context: Any) -> tuple[Any, Any]:
                at_every_place = jax.vmap(jax.vmap(jax.vmap(function)))
                y, log_det = at_every_place(jnp.moveaxis(x, 1, -1))
                return jnp.moveaxis(y, -1, 1), log_det.sum((1, 2))

            return apply

        return side(whole.transform_and_log_det), side(whole.inverse_and_log_det)


def _elementwise(make: Callable, *arrays: Any) -> Pair:
    """Apply a scalar bijection to every entry, with its parameters broadcast."""

    def side(method: str) -> Any:
        def apply(x: Any, context: Any) -> tuple[Any, Any]:
            def one(value: Any, *parameters: Any) -> Any:
                return getattr(make(*parameters), method)(value)

            flat = (jnp.broadcast_to(a, x.shape).ravel() for a in arrays)
            y, log_det = jax.vmap(one)(x.ravel(), *flat)
            return y.reshape(x.shape), log_det.reshape(x.shape).sum((1, 2, 3))

        return apply

    return side("transform_and_log_det"), side("inverse_and_log_det")
