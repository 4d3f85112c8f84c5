"""Adapter of normflows: its flows, with their parameters replaced by the specification's.

In normflows, `forward` maps noise to data. A map is judged in the direction in which its
parameters are those of the specification.
"""

from __future__ import annotations

from typing import Any

import normflows as nf
import numpy as np
import torch
from torch import Tensor, nn

from conformance.adapters.spec_view import Pair, SpecView, check_affine

from ..adapter import NotSupported
from .torch_arrays import TorchLibraryAdapter, in_groups, per_example


class NormflowsAdapter(TorchLibraryAdapter):
    """`AffineConstFlow`, `ActNorm`, `Invertible1x1Conv`, `Logit`, `Squeeze`, `AffineCoupling`."""

    library = "normflows"
    absent = {
        "checkerboard": "its checkerboard also alternates from channel to channel",
    }

    def affine(self, fields: SpecView) -> Pair:
        if fields.log_scale.ndim == 4 and len(fields.log_scale) > 1:
            raise NotSupported("normflows: AffineConstFlow has one scale for all examples")
        log_scale, shift = (
            field.reshape((1,) * (4 - field.ndim) + field.shape)
            for field in (fields.log_scale, fields.shift)
        )
        flow = nf.flows.AffineConstFlow(tuple(log_scale.shape[1:]))
        _replace(flow, s=log_scale, t=shift)
        return _pair(flow)

    def act_norm(self, fields: SpecView) -> Pair:
        flow = nf.flows.ActNorm(tuple(fields.gain.shape))
        flow.data_dep_init_done = torch.tensor(1.0)
        _replace(flow, s=fields.gain.clamp(min=1e-10).log(), t=fields.bias)
        return _pair(flow)

    def sigmoid(self, fields: SpecView) -> Pair:
        return _pair(nf.transforms.Logit(alpha=0.0))

    def data_logit(self, fields: SpecView) -> Pair:
        """Scale pixels to [0, 1] with a constant flow, then apply `Logit`, both inverted."""
        scale = nf.flows.AffineConstFlow((1, 1, 1), shift=False)
        log_levels = torch.full((1, 1, 1, 1), float(np.log(fields.levels)), dtype=self.dtype)
        _replace(scale, s=log_levels)
        logit_forward, logit_inverse = _pair(nf.transforms.Logit(alpha=fields.margin))
        scale_forward, scale_inverse = _pair(scale)

        def forward(x: Tensor, context: Any) -> tuple[Tensor, Tensor]:
            unit, first = scale_inverse(x, context)
            y, second = logit_inverse(unit, context)
            return y, first + second

        def inverse(y: Tensor, context: Any) -> tuple[Tensor, Tensor]:
            unit, first = logit_forward(y, context)
            x, second = scale_forward(unit, context)
            return x, first + second

        return forward, inverse

    def invertible_conv(self, fields: SpecView) -> Pair:
        pairs = []
        for weight in fields.weight:
            flow = nf.flows.Invertible1x1Conv(len(weight))
            _replace(flow, W=weight)
            pairs.append(_pair(flow)[::-1])
        return in_groups(pairs)

    def invertible_conv_lu(self, fields: SpecView) -> Pair:
        pairs = []
        for g, permutation in enumerate(fields.permutation):
            flow = nf.flows.Invertible1x1Conv(len(permutation), use_lu=True).to(self.dtype)
            flow.P = torch.eye(len(permutation), dtype=self.dtype)[torch.as_tensor(permutation)]
            _replace(flow, L=fields.lower[g], U=fields.upper[g], log_S=fields.log_diagonal[g])
            flow._buffers.pop("sign_S")
            flow.sign_S = fields.signs[g]
            pairs.append(_pair(flow)[::-1])
        return in_groups(pairs)

    def flip(self, fields: SpecView) -> Pair:
        def forward(x: Tensor, context: Any) -> tuple[Tensor, Tensor]:
            return nf.flows.Permute(x.shape[1], mode="swap").forward(x)

        def inverse(y: Tensor, context: Any) -> tuple[Tensor, Tensor]:
            return nf.flows.Permute(y.shape[1], mode="swap").inverse(y)

        return forward, inverse

    def squeeze(self, fields: SpecView) -> Pair:
        """Permute the channels after normflows' squeeze, whose slow index is the channel."""

        def permute(channels: int) -> Any:
            flow = nf.flows.Permute(channels, mode="shuffle")
            flow.perm = torch.arange(channels).reshape(-1, 4).T.flatten()
            flow.inv_perm = torch.argsort(flow.perm)
            return flow

        def forward(x: Tensor, context: Any) -> tuple[Tensor, Tensor]:
            y, first = nf.flows.Squeeze().inverse(x)
            y, second = permute(y.shape[1]).forward(y)
            return y, per_example(first, x) + second

        def inverse(y: Tensor, context: Any) -> tuple[Tensor, Tensor]:
            x, first = permute(y.shape[1]).inverse(y)
            x, second = nf.flows.Squeeze().forward(x)
            return x, first + per_example(second, x)

        return forward, inverse

    def coupling(self, fields: SpecView) -> Pair:
        check_affine(fields, self.library)

        class Network(nn.Module):
            def forward(network, a: Tensor) -> Tensor:  # noqa: N805
                raw = self.raw(fields, a, None)
                both = torch.stack([raw[..., 1], raw[..., 0].tanh()], dim=2)
                return both.flatten(1, 2)  # shift and scale alternate

        block = nf.flows.AffineCouplingBlock(Network(), scale_map="exp")
        forward, inverse = _pair(block)

        def without_context(function: Any) -> Any:
            def apply(x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
                if context is not None:
                    raise NotSupported("normflows: AffineCouplingBlock takes no context")
                return function(x, None)

            return apply

        return without_context(forward), without_context(inverse)


def _pair(flow: Any) -> Pair:
    def forward(x: Tensor, context: Any) -> tuple[Tensor, Tensor]:
        y, log_det = flow.forward(x)
        return y, _by_example(log_det, x)

    def inverse(y: Tensor, context: Any) -> tuple[Tensor, Tensor]:
        x, log_det = flow.inverse(y)
        return x, _by_example(log_det, y)

    return forward, inverse


def _by_example(log_det: Any, x: Tensor) -> Tensor:
    """Broadcast a log-det that normflows returns once for all examples."""
    shared = not isinstance(log_det, Tensor) or log_det.ndim == 0
    return per_example(log_det, x) if shared else log_det


def _replace(flow: nn.Module, **tensors: Tensor) -> None:
    """Replace parameters of a flow by tensors, keeping their graph."""
    for name, tensor in tensors.items():
        del flow._parameters[name]
        setattr(flow, name, tensor)
