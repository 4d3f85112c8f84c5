"""Adapter of zuko: its own transforms, and torch's where zuko uses those."""

from __future__ import annotations

import math
from typing import Any

import torch
import zuko.transforms as zt
from torch import Tensor
from torch.nn.functional import logsigmoid

from conformance.adapters.spec_view import Pair, SpecView, check_affine

from .torch_arrays import at_positions, in_groups
from .torch_distributions import TorchDistributionsAdapter

SLOPE = 1e-300
"""Limits log-scales to 690; zuko's default of 1e-3 limits them to 6.9."""

BOUND = 1e38
"""Half of the bisected interval, wide enough for every case; zuko's default is 10."""

NARROWEST = 1e-9
"""Scale of the narrowest components, in units of which the inverse is accurate to eps."""


class ZukoAdapter(TorchDistributionsAdapter):
    """`MonotonicAffineTransform`, `LULinearTransform`, `CouplingTransform`, `MonotonicTransform`.

    zuko has no mixture of logistics, but `MonotonicTransform` inverts and differentiates any
    monotonic function: here the logit of a mixture's CDF, in log-sum-exps. Its bound is set wide
    enough for every case, and its tolerance to the dtype's eps at the narrowest scale.
    `GaussianizationTransform` is a different map: an equal mixture of normals, then the probit.
    """

    library = "zuko"
    absent = {"channel_split": "no map is needed"}

    def affine(self, fields: SpecView) -> Pair:
        return self.pair(self._affine(fields.log_scale, fields.shift))

    def act_norm(self, fields: SpecView) -> Pair:
        return self.pair(self._affine(fields.gain.clamp(min=1e-10).log(), fields.bias))

    def mixture_logistic(self, fields: SpecView) -> Pair:
        return self.pair(self._mixture(fields.logits, fields.means, fields.log_scales))

    def invertible_conv(self, fields: SpecView) -> Pair:
        permutations, lower, upper = torch.linalg.lu(fields.weight)
        groups = zip(permutations.argmax(-1), lower, upper, strict=True)
        return in_groups([self._linear(*group) for group in groups])

    def invertible_conv_lu(self, fields: SpecView) -> Pair:
        identity = torch.eye(fields.lower.shape[-1], dtype=self.dtype, device=self.device)
        diagonal = torch.diag_embed(fields.signs * fields.log_diagonal.exp())
        return in_groups(
            [
                self._linear(*group)
                for group in zip(
                    torch.as_tensor(fields.permutation, device=self.device),
                    fields.lower.tril(-1) + identity,
                    fields.upper.triu(1) + diagonal,
                    strict=True,
                )
            ]
        )

    def flip(self, fields: SpecView) -> Pair:
        def apply(rows: Tensor) -> tuple[Tensor, Tensor]:
            order = torch.arange(rows.shape[-1]).roll(rows.shape[-1] // 2)
            return zt.PermutationTransform(order).call_and_ladj(rows)

        return at_positions(apply), at_positions(apply)

    def coupling(self, fields: SpecView) -> Pair:
        """Flatten images to vectors, whose first half is the first half of the channels."""

        def side(direction: str) -> Any:
            def apply(x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
                half = (len(x), x.shape[1] // 2, *x.shape[2:])

                def meta(a: Tensor) -> Any:
                    r = self.raw(fields, a.reshape(half), context).flatten(1, 3)
                    return zt.DependentTransform(self._member(fields, r), 1)

                size = math.prod(x.shape[1:])
                mask = torch.arange(size) < size // 2
                transform = zt.CouplingTransform(meta, mask)
                if direction == "inverse":
                    transform = transform.inv
                y, log_det = transform.call_and_ladj(x.flatten(1))
                return y.reshape(x.shape), log_det

            return apply

        return side("forward"), side("inverse")

    def pair(self, transform: Any) -> Pair:
        whole = zt.DependentTransform(transform, 3 - transform.domain.event_dim)

        def forward(x: Tensor, context: Any) -> tuple[Tensor, Tensor]:
            return whole.call_and_ladj(x)

        def inverse(y: Tensor, context: Any) -> tuple[Tensor, Tensor]:
            return whole.inv.call_and_ladj(y)

        return forward, inverse

    def _member(self, fields: SpecView, r: Tensor) -> Any:
        """Return the elementwise map for raw parameters `(B, D, P)`."""
        affine = self._affine(torch.tanh(r[..., 0]), r[..., 1])
        if r.shape[-1] == 2:
            check_affine(fields, self.library)
            return affine
        logits, means, log_scales = r[..., 2:].chunk(3, dim=-1)
        floor = fields.spec.family.log_scale_floor
        if floor is not None:
            log_scales = log_scales.clamp(min=floor)
        return zt.ComposedTransform(self._mixture(logits, means, log_scales), affine)

    @staticmethod
    def _affine(log_scale: Tensor, shift: Tensor) -> Any:
        # zuko computes a / (1 + |a / log slope|); this is the a whose result is log_scale.
        limit = abs(torch.log(torch.tensor(SLOPE, dtype=torch.float64)).item())
        return zt.MonotonicAffineTransform(
            shift, log_scale / (1 - abs(log_scale / limit)), slope=SLOPE
        )

    def _mixture(self, logits: Tensor, means: Tensor, log_scales: Tensor) -> Any:
        log_weights = torch.log_softmax(logits, -1)

        def logit_cdf(x: Tensor) -> Tensor:
            z = (x[..., None] - means) * torch.exp(-log_scales)
            return torch.logsumexp(log_weights + logsigmoid(z), -1) - torch.logsumexp(
                log_weights + logsigmoid(-z), -1
            )

        parameters = (logits, means, log_scales)
        eps = NARROWEST * torch.finfo(self.dtype).eps
        return zt.MonotonicTransform(logit_cdf, parameters, bound=BOUND, eps=eps)

    def _linear(self, order: Tensor, lower: Tensor, upper: Tensor) -> Pair:
        diagonal = torch.diagonal(upper)
        # In zuko L contains the diagonal, in the specification U: L (D + U) = (L D) (I + D^-1 U).
        matrix = lower * diagonal + (upper / diagonal[:, None]).triu(1)
        linear = zt.ComposedTransform(zt.LULinearTransform(matrix), zt.PermutationTransform(order))
        return at_positions(linear.call_and_ladj), at_positions(linear.inv.call_and_ladj)
