"""Adapter of torch.distributions: its transforms, and the CDF of a mixture."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch import distributions as td
from torch.distributions import transforms

from conformance.adapters.spec_view import Pair, SpecView

from ..adapter import NotSupported
from .torch_arrays import TorchLibraryAdapter

IMAGE_DIMS = 3


class TorchDistributionsAdapter(TorchLibraryAdapter):
    """`AffineTransform`, `SigmoidTransform`, and `CumulativeDistributionTransform`.

    A mixture of logistics is built as in torch's documentation: a logistic is a uniform after the
    inverse sigmoid and an affine map, and `MixtureSameFamily` mixes the components.
    """

    library = "torch.distributions"

    def affine(self, fields: SpecView) -> Pair:
        return self.pair(transforms.AffineTransform(fields.shift, torch.exp(fields.log_scale)))

    def act_norm(self, fields: SpecView) -> Pair:
        return self.pair(transforms.AffineTransform(fields.bias, fields.gain.clamp(min=1e-10)))

    def sigmoid(self, fields: SpecView) -> Pair:
        return self.pair(transforms.SigmoidTransform())

    def data_logit(self, fields: SpecView) -> Pair:
        slope = (1 - 2 * fields.margin) / fields.levels
        affine = transforms.AffineTransform(fields.margin, slope)
        return self.pair(transforms.ComposeTransform([affine, transforms.SigmoidTransform().inv]))

    def channel_split(self, fields: SpecView) -> Pair:
        return self.pair(transforms.identity_transform)

    def mixture_logistic(self, fields: SpecView) -> Pair:
        zero = torch.zeros_like(fields.means)
        logistic = td.TransformedDistribution(
            td.Uniform(zero, zero + 1),
            [
                transforms.SigmoidTransform().inv,
                transforms.AffineTransform(fields.means, torch.exp(fields.log_scales)),
            ],
        )
        mixture = td.MixtureSameFamily(td.Categorical(logits=fields.logits), logistic)
        cdf = transforms.CumulativeDistributionTransform(mixture)
        forward, _ = self.pair(
            transforms.ComposeTransform([cdf, transforms.SigmoidTransform().inv])
        )

        def inverse(y: Tensor, context: Any) -> tuple[Tensor, Tensor]:
            raise NotSupported("torch.distributions: MixtureSameFamily has no icdf")

        return forward, inverse

    def pair(self, transform: td.Transform) -> Pair:
        """Return both directions of a transform, applied to whole images."""
        whole: Any = transforms.IndependentTransform(
            transform, IMAGE_DIMS - transform.domain.event_dim
        )

        def forward(x: Tensor, context: Any) -> tuple[Tensor, Tensor]:
            y = whole(x)
            return y, whole.log_abs_det_jacobian(x, y)

        def inverse(y: Tensor, context: Any) -> tuple[Tensor, Tensor]:
            x = whole.inv(y)
            return x, whole.inv.log_abs_det_jacobian(y, x)

        return forward, inverse
