"""Adapter of Pyro: its own transforms of images. Those of torch are in `torch_distributions`."""

from __future__ import annotations

from typing import Any

import pyro.distributions.transforms as pt
import torch
from torch import Tensor

from conformance.adapters.spec_view import Pair, SpecView, check_affine

from ..adapter import NotSupported
from .torch_arrays import TorchLibraryAdapter, in_groups


class PyroAdapter(TorchLibraryAdapter):
    """`GeneralizedChannelPermute`, `AffineCoupling` on channels, `Permute`."""

    library = "pyro"

    def invertible_conv(self, fields: SpecView) -> Pair:
        permutations, lower, upper = torch.linalg.lu(fields.weight)
        return in_groups(
            [
                self._conv(*group)
                for group in zip(permutations.argmax(-1), lower, upper, strict=True)
            ]
        )

    def invertible_conv_lu(self, fields: SpecView) -> Pair:
        permutations = torch.as_tensor(fields.permutation)
        upper = fields.upper.triu(1) + torch.diag_embed(fields.signs * fields.log_diagonal.exp())
        return in_groups(
            [self._conv(*group) for group in zip(permutations, fields.lower, upper, strict=True)]
        )

    def flip(self, fields: SpecView) -> Pair:
        def transform(x: Tensor) -> Any:
            order = torch.arange(x.shape[1]).roll(x.shape[1] // 2)
            return pt.Permute(order, dim=-3)

        def forward(x: Tensor, context: Any) -> tuple[Tensor, Tensor]:
            return _summed(transform(x), x)

        def inverse(y: Tensor, context: Any) -> tuple[Tensor, Tensor]:
            return _summed(transform(y).inv, y)

        return forward, inverse

    def coupling(self, fields: SpecView) -> Pair:
        check_affine(fields, self.library)

        def transform(x: Tensor, context: Tensor | None) -> Any:
            half = (len(x), x.shape[1] // 2, *x.shape[2:])

            def network(a: Tensor) -> tuple[Tensor, Tensor]:
                raw = self.raw(fields, a.reshape(half), context)
                return raw[..., 1].flatten(1), raw[..., 0].tanh().flatten(1)

            return pt.AffineCoupling(x.shape[1] // 2, network, dim=-3)

        def forward(x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
            return _summed(transform(x, context), x)

        def inverse(y: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
            return _summed(transform(y, context).inv, y)

        return forward, inverse

    def _conv(self, order: Tensor, lower: Tensor, upper: Tensor) -> Pair:
        transform = pt.GeneralizedChannelPermute(len(order), order).to(self.dtype)
        del transform._parameters["LU"]
        transform.LU = lower.tril(-1) + upper.triu()
        # With its cache, the inverse would return the input of the last call.
        transform._cache_size = 0
        return (
            lambda x, context: _summed(transform, x),
            lambda y, context: _summed(transform.inv, y),
        )


def _summed(transform: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return output and log-det, summed over the event dimensions that are left."""
    y = transform(x)
    log_det = transform.log_abs_det_jacobian(x, y)
    if log_det.ndim == 0 or len(log_det) != len(x):
        raise NotSupported(f"pyro: the log-det of {type(transform).__name__} has no batch axis")
    return y, log_det.flatten(1).sum(1) if log_det.ndim > 1 else log_det
