"""Adapter of distrax: its bijectors in JAX."""

from __future__ import annotations

from typing import Any

import distrax
import jax.numpy as jnp
import numpy as np

from conformance.adapters.spec_view import Pair, SpecView, check_affine

from .jax_arrays import JaxLibraryAdapter, in_groups_last

IMAGE_DIMS = 3


class DistraxAdapter(JaxLibraryAdapter):
    """`ScalarAffine`, `Sigmoid`, `UnconstrainedAffine`, `LowerUpperTriangularAffine`, `Block`, ...

    distrax has no permutation; one of channels is an `UnconstrainedAffine` with its matrix, as in
    the LU parametrization.
    """

    library = "distrax"
    absent = {
        "channel_split": "no map is needed",
        "mixture_logistic": "MixtureSameFamily has no CDF",
    }

    def affine(self, fields: SpecView) -> Pair:
        return _image(distrax.ScalarAffine(fields.shift, log_scale=fields.log_scale))

    def act_norm(self, fields: SpecView) -> Pair:
        gain = jnp.maximum(fields.gain, 1e-10)
        return _image(distrax.ScalarAffine(fields.bias, scale=gain))

    def sigmoid(self, fields: SpecView) -> Pair:
        return _image(distrax.Sigmoid())

    def data_logit(self, fields: SpecView) -> Pair:
        slope = (1 - 2 * fields.margin) / fields.levels
        affine = distrax.ScalarAffine(self.array(fields.margin), scale=self.array(slope))
        return _image(distrax.Chain([distrax.Inverse(distrax.Sigmoid()), affine]))

    def invertible_conv(self, fields: SpecView) -> Pair:
        return _linear(distrax.UnconstrainedAffine(fields.weight, _no_bias(fields.weight)))

    def invertible_conv_lu(self, fields: SpecView) -> Pair:
        size = fields.lower.shape[-1]
        diagonal = (fields.signs * jnp.exp(fields.log_diagonal))[..., None] * jnp.eye(size)
        matrix = jnp.tril(fields.lower, -1) + jnp.triu(fields.upper, 1) + diagonal
        product = distrax.LowerUpperTriangularAffine(matrix, _no_bias(matrix))
        return _linear(distrax.Chain([self._permutation(fields.spec.permutation), product]))

    def flip(self, fields: SpecView) -> Pair:
        def side(index: int) -> Any:
            def apply(x: Any, context: Any) -> tuple[Any, Any]:
                channels = np.arange(x.shape[1])
                order = np.roll(channels, x.shape[1] // 2)
                return _linear(self._permutation(order[None]))[index](x, context)

            return apply

        return side(0), side(1)

    def coupling(self, fields: SpecView) -> Pair:
        check_affine(fields, self.library)

        def transform(x: Any, context: Any) -> Any:
            def network(a: Any) -> Any:
                return self.raw(fields, a, context)

            def affine(raw: Any) -> Any:
                return distrax.ScalarAffine(raw[..., 1], log_scale=jnp.tanh(raw[..., 0]))

            half = x.shape[1] // 2
            return distrax.SplitCoupling(half, IMAGE_DIMS, network, affine, split_axis=-IMAGE_DIMS)

        def forward(x: Any, context: Any) -> tuple[Any, Any]:
            return transform(x, context).forward_and_log_det(x)

        def inverse(y: Any, context: Any) -> tuple[Any, Any]:
            return transform(y, context).inverse_and_log_det(y)

        return forward, inverse

    def _permutation(self, orders: np.ndarray) -> Any:
        """Return the map of vectors `(G, c)` by permutations `(G, c)`."""
        matrices = self.array(np.eye(orders.shape[-1])[orders])
        return distrax.UnconstrainedAffine(matrices, _no_bias(matrices))


def _no_bias(matrices: Any) -> Any:
    return jnp.zeros_like(matrices[..., 0])


def _image(bijector: Any) -> Pair:
    """Apply a bijector of scalars to whole images."""
    whole = distrax.Block(bijector, IMAGE_DIMS)

    def forward(x: Any, context: Any) -> tuple[Any, Any]:
        return whole.forward_and_log_det(x)

    def inverse(y: Any, context: Any) -> tuple[Any, Any]:
        return whole.inverse_and_log_det(y)

    return forward, inverse


def _linear(bijector: Any) -> Pair:
    """Apply a batch of linear maps of vectors, one for each group of channels."""
    matrix = getattr(bijector, "bijectors", [bijector])[0].matrix
    whole = distrax.Block(bijector, IMAGE_DIMS)  # height, width and groups
    return (
        in_groups_last(whole.forward_and_log_det, len(matrix)),
        in_groups_last(whole.inverse_and_log_det, len(matrix)),
    )
