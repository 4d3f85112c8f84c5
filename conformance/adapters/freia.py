"""Adapter of FrEIA: its invertible modules, with their parameters replaced by the specification's.

The outputs of a module are those of the direction that its argument `rev` selects.
"""

from __future__ import annotations

from typing import Any

import FrEIA.modules as fm
import torch
from torch import Tensor, nn

from conformance.adapters.spec_view import Pair, SpecView, check_affine
from conformance.numerics.specs import objects

from .torch_arrays import NumpyMap, TorchLibraryAdapter, in_groups, per_example


class FreiaAdapter(TorchLibraryAdapter):
    """`ActNorm`, `ConditionalAffineTransform`, `Fixed1x1Conv`, `InvertibleSigmoid`, ...

    `ConditionalAffineTransform` maps the whole input, with coefficients that a network computes
    from a condition; here they are the specification's, whatever the condition.
    """

    library = "FrEIA"
    absent = {
        "channel_split": "no map is needed",
        "invertible_conv_lu": "Fixed1x1Conv has a full matrix",
    }

    def build(self, spec: Any) -> Any:
        """Build the map; the matrix of a `Fixed1x1Conv` is constant, without a gradient."""
        built = super().build(spec)
        constant = any(type(found).__name__ == "InvertibleConv" for found in objects(spec))
        return NumpyMap(self, spec) if constant else built

    def affine(self, fields: SpecView) -> Pair:
        return self._affine(fields.log_scale, fields.shift)

    def act_norm(self, fields: SpecView) -> Pair:
        log_scale = fields.gain.clamp(min=1e-10).log()
        if fields.gain[0].numel() > 1:  # FrEIA's ActNorm has one scale per channel
            return self._affine(log_scale, fields.bias)

        def make(shape: tuple[int, ...]) -> nn.Module:
            norm = fm.ActNorm([shape])
            norm.init_on_next_batch = False
            return _replace(norm, scale=log_scale[None], bias=fields.bias[None])

        return _pair(make)

    def sigmoid(self, fields: SpecView) -> Pair:
        """Flatten images: the module sums the log-det over one axis."""
        forward, inverse = _pair(lambda shape: fm.InvertibleSigmoid([shape]))

        def flattened(function: Any) -> Any:
            def apply(x: Tensor, context: Any) -> tuple[Tensor, Tensor]:
                y, log_det = function(x.flatten(1), context)
                return y.reshape(x.shape), log_det

            return apply

        return flattened(forward), flattened(inverse)

    def data_logit(self, fields: SpecView) -> Pair:
        slope = torch.tensor((1 - 2 * fields.margin) / fields.levels, dtype=self.dtype)
        margin = torch.tensor(fields.margin, dtype=self.dtype)
        scale_forward, scale_inverse = self._affine(slope.log(), margin)
        sigmoid_forward, sigmoid_inverse = self.sigmoid(fields)

        def forward(x: Tensor, context: Any) -> tuple[Tensor, Tensor]:
            unit, first = scale_forward(x, context)
            y, second = sigmoid_inverse(unit, context)
            return y, first + second

        def inverse(y: Tensor, context: Any) -> tuple[Tensor, Tensor]:
            unit, first = sigmoid_forward(y, context)
            x, second = scale_inverse(unit, context)
            return x, first + second

        return forward, inverse

    def invertible_conv(self, fields: SpecView) -> Pair:
        # FrEIA multiplies by the transpose of M.
        matrices = [weight.detach().T for weight in fields.weight]
        return in_groups(
            [_pair(lambda shape, m=matrix: fm.Fixed1x1Conv([shape], M=m)) for matrix in matrices]
        )

    def flip(self, fields: SpecView) -> Pair:
        def make(shape: tuple[int, ...]) -> nn.Module:
            return _permutation(shape, torch.arange(shape[0]).roll(shape[0] // 2))

        return _pair(make)

    def squeeze(self, fields: SpecView) -> Pair:
        """Permute the channels after FrEIA's module, whose slow index is the channel."""

        def permutation(shape: tuple[int, ...]) -> nn.Module:
            return _permutation(shape, torch.arange(shape[0]).reshape(-1, 4).T.flatten())

        def upsampling(shape: tuple[int, ...]) -> nn.Module:
            return fm.IRevNetUpsampling([shape]).to(self.dtype)

        def downsampling(shape: tuple[int, ...]) -> nn.Module:
            return fm.IRevNetDownsampling([shape]).to(self.dtype)

        def forward(x: Tensor, context: Any) -> tuple[Tensor, Tensor]:
            y, first = _pair(downsampling)[0](x, context)
            y, second = _pair(permutation)[0](y, context)
            return y, first + second

        def inverse(y: Tensor, context: Any) -> tuple[Tensor, Tensor]:
            x, first = _pair(permutation)[1](y, context)
            x, second = _pair(upsampling)[0](x, context)
            return x, first + second

        return forward, inverse

    def coupling(self, fields: SpecView) -> Pair:
        check_affine(fields, self.library)

        def side(*, rev: bool) -> Any:
            def apply(x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
                half = x.shape[1] // 2

                def network(inputs: int, outputs: int) -> Any:
                    def coefficients(a: Tensor) -> Tensor:
                        given = a[:, half:] if inputs > half else None
                        return _coefficients(self.raw(fields, a[:, :half], given))

                    return _Function(coefficients)

                conditions = [] if context is None else [context]
                block = fm.AffineCouplingOneSided(
                    [tuple(x.shape[1:])],
                    [tuple(condition.shape[1:]) for condition in conditions],
                    subnet_constructor=network,
                    clamp=1.0,
                    clamp_activation="TANH",
                )
                (y,), log_det = block([x], conditions, rev=rev)
                return y, log_det

            return apply

        return side(rev=False), side(rev=True)

    def _affine(self, log_scale: Tensor, shift: Tensor) -> Pair:
        """Map the whole input with coefficients that broadcast to it."""

        def side(*, rev: bool) -> Any:
            def apply(x: Tensor, context: Any) -> tuple[Tensor, Tensor]:
                both = torch.cat([log_scale.expand(x.shape), shift.expand(x.shape)], 1)
                shape = tuple(x.shape[1:])
                module = fm.ConditionalAffineTransform(
                    [shape],
                    [shape],
                    subnet_constructor=lambda inputs, outputs: _Function(lambda condition: both),
                    clamp=1.0,
                    clamp_activation=lambda u: u,
                )
                (y,), log_det = module([x], [x], rev=rev)
                return y, log_det

            return apply

        return side(rev=False), side(rev=True)


class _Function(nn.Module):
    """Module of a function, for FrEIA's networks."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, condition: Tensor) -> Tensor:
        return self.function(condition)


def _coefficients(raw: Tensor) -> Tensor:
    """Order parameters (B, C/2, H, W, 2) as FrEIA does: all scales, then all shifts."""
    return torch.cat([raw[..., 0], raw[..., 1]], 1)


def _pair(make: Any) -> Pair:
    """Apply a module, made for the input's shape without the batch."""

    def side(*, rev: bool) -> Any:
        def apply(x: Tensor, context: Any) -> tuple[Tensor, Tensor]:
            (y,), log_det = make(tuple(x.shape[1:]))([x], rev=rev)
            shared = not isinstance(log_det, Tensor) or log_det.ndim == 0
            return y, per_example(log_det, x) if shared else log_det

        return apply

    return side(rev=False), side(rev=True)


def _permutation(shape: tuple[int, ...], order: Tensor) -> nn.Module:
    """Return `PermuteRandom` with a given order."""
    module = fm.PermuteRandom([shape])
    return _replace(module, perm=order, perm_inv=torch.argsort(order))


def _replace(module: nn.Module, **tensors: Tensor) -> nn.Module:
    """Replace parameters of a module by tensors, keeping their graph."""
    for name, tensor in tensors.items():
        del module._parameters[name]
        setattr(module, name, tensor)
    return module
