"""Adapter of nflows: its transforms, with their parameters replaced by the specification's."""

from __future__ import annotations

from typing import Any

import nflows.transforms as nt
import torch
from torch import Tensor, nn

from conformance.adapters.spec_view import Pair, SpecView, check_affine

from ..adapter import NotSupported
from .torch_arrays import TorchLibraryAdapter, at_positions, in_groups

LEAST_DIAGONAL = 1e-3
"""Constant that nflows adds to the softplus of a diagonal."""


class NflowsAdapter(TorchLibraryAdapter):
    """`PointwiseAffineTransform`, `ActNorm`, `NaiveLinear`, `OneByOneConvolution`, `Logit`, ...

    nflows limits the scales of a coupling to (0.001, 1.001). A subclass sets scale and shift, as
    nflows' own additive coupling does, so that split, merge and log-det are judged.
    """

    library = "nflows"

    def affine(self, fields: SpecView) -> Pair:
        if fields.log_scale.ndim == 4 and len(fields.log_scale) > 1:
            raise NotSupported("nflows: PointwiseAffineTransform has one scale for all examples")
        shape = fields.log_scale.shape[-3:]
        return self._pair(
            nt.PointwiseAffineTransform(fields.shift, torch.exp(fields.log_scale).reshape(shape))
        )

    def act_norm(self, fields: SpecView) -> Pair:
        gain = fields.gain.clamp(min=1e-10)
        if gain[0].numel() > 1:  # nflows' ActNorm has one scale per channel
            return self._pair(nt.PointwiseAffineTransform(fields.bias, gain))
        norm = nt.ActNorm(len(gain))
        replace(norm, log_scale=gain.log().flatten(), shift=fields.bias.flatten())
        return self._pair(norm)

    def sigmoid(self, fields: SpecView) -> Pair:
        return self._pair(nt.Sigmoid())

    def data_logit(self, fields: SpecView) -> Pair:
        slope = (1 - 2 * fields.margin) / fields.levels
        shift, scale = (torch.tensor(v, dtype=self.dtype) for v in (fields.margin, slope))
        return self._pair(
            nt.CompositeTransform([nt.PointwiseAffineTransform(shift, scale), nt.Logit()])
        )

    def invertible_conv(self, fields: SpecView) -> Pair:
        pairs = []
        for weight in fields.weight:
            linear = nt.NaiveLinear(len(weight), orthogonal_initialization=False)
            replace(linear, _weight=weight, bias=torch.zeros_like(weight[0]))
            pairs.append((at_positions(linear.forward), at_positions(linear.inverse)))
        return in_groups(pairs)

    def invertible_conv_lu(self, fields: SpecView) -> Pair:
        """Use P (I + L) (U + S D) = P S (I + S L S) (S U + D): nflows' diagonals are positive."""
        return in_groups(
            [
                self._lu(*group)
                for group in zip(
                    torch.as_tensor(fields.permutation),
                    fields.lower,
                    fields.upper,
                    fields.log_diagonal,
                    fields.signs,
                    strict=True,
                )
            ]
        )

    def flip(self, fields: SpecView) -> Pair:
        def side(direction: str) -> Any:
            def apply(x: Tensor, context: Any) -> tuple[Tensor, Tensor]:
                order = torch.arange(x.shape[1]).roll(x.shape[1] // 2)
                return getattr(nt.Permutation(order), direction)(x)

            return apply

        return side("forward"), side("inverse")

    def squeeze(self, fields: SpecView) -> Pair:
        """Permute the channels after nflows' squeeze, whose slow index is the channel."""

        def forward(x: Tensor, context: Any) -> tuple[Tensor, Tensor]:
            order = torch.arange(4 * x.shape[1]).reshape(-1, 4).T.flatten()
            return nt.CompositeTransform([nt.SqueezeTransform(), nt.Permutation(order)])(x)

        def inverse(y: Tensor, context: Any) -> tuple[Tensor, Tensor]:
            order = torch.arange(y.shape[1]).reshape(-1, 4).T.flatten()
            both = nt.CompositeTransform([nt.SqueezeTransform(), nt.Permutation(order)])
            return both.inverse(y)

        return forward, inverse

    def channel_split(self, fields: SpecView) -> Pair:
        return self._pair(nt.IdentityTransform())

    def coupling(self, fields: SpecView) -> Pair:
        check_affine(fields, self.library)

        class Coupling(nt.AffineCouplingTransform):
            def _scale_and_shift(self, transform_params: Tensor) -> tuple[Tensor, Tensor]:
                return transform_params[..., 0].tanh().exp(), transform_params[..., 1]

        class Network(nn.Module):
            def forward(network, a: Tensor, context: Tensor | None) -> Tensor:  # noqa: N805
                return self.raw(fields, a, context)

        def side(direction: str) -> Any:
            def apply(x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
                channels = torch.arange(x.shape[1])
                mask = (channels >= x.shape[1] // 2).int()
                transform = Coupling(mask, lambda inputs, outputs: Network())
                return getattr(transform, direction)(x, context)

            return apply

        return side("forward"), side("inverse")

    def _lu(
        self,
        permutation: Tensor,
        lower: Tensor,
        upper: Tensor,
        log_diagonal: Tensor,
        signs: Tensor,
    ) -> Pair:
        size = len(signs)
        conv = nt.OneByOneConvolution(size)
        conv.permutation = nt.Permutation(torch.arange(size))
        rows, columns = conv.lower_indices
        replace(
            conv,
            lower_entries=(signs[:, None] * lower * signs)[rows, columns],
            upper_entries=(signs[:, None] * upper)[conv.upper_indices],
            unconstrained_upper_diag=(log_diagonal.exp() - LEAST_DIAGONAL).expm1().log(),
            bias=torch.zeros_like(signs),
        )
        negative = torch.nonzero(signs < 0).flatten()
        parts: list[Any] = [conv]
        if len(negative):
            reflections = nt.HouseholderSequence(size, len(negative))
            axes = torch.eye(size, dtype=self.dtype)[negative]
            replace(reflections, q_vectors=axes)
            parts.append(_AtPositions(reflections))
        parts.append(nt.Permutation(permutation))
        return self._pair(nt.CompositeTransform(parts))

    def _pair(self, transform: nn.Module) -> Pair:
        whole: Any = transform.to(self.device).eval()
        return whole.forward, whole.inverse


class _AtPositions(nn.Module):
    """Transform of vectors, applied at every position of an image."""

    def __init__(self, transform: Any) -> None:
        super().__init__()
        self.transform = transform

    def forward(self, x: Tensor, context: Any = None) -> tuple[Tensor, Tensor]:
        return at_positions(self.transform.forward)(x, None)

    def inverse(self, y: Tensor, context: Any = None) -> tuple[Tensor, Tensor]:
        return at_positions(self.transform.inverse)(y, None)


def replace(module: nn.Module, **tensors: Tensor) -> None:
    """Replace parameters of a module by tensors, keeping their graph."""
    for name, tensor in tensors.items():
        if name not in module._parameters:
            raise NotSupported(f"{type(module).__name__} has no parameter {name}")
        if module._parameters[name].shape != tensor.shape:  # type: ignore[union-attr]
            raise ValueError(
                f"{name} of {type(module).__name__} must have shape "
                f"{tuple(module._parameters[name].shape)}, got {tuple(tensor.shape)}"  # type: ignore[union-attr]
            )
        del module._parameters[name]
        setattr(module, name, tensor)
