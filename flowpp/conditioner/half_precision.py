"""Half-precision copies of a network's parameters, made together once a pass."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from .conv2d import Conv2d
from .layer_norm import LayerNorm


def half_parameters(
    network: nn.Module, dtype: torch.dtype, besides: Container[str] = ()
) -> dict[str, Tensor]:
    """Return copies of the parameters in another dtype, by name, for `functional_call`.

    Each layer would otherwise convert its own parameters, in one kernel each and one for each
    gradient. Left out are the names in `besides`, weight-normalized kernels, whose norm is
    computed in float32, and the position embedding, which is added in float32.
    """
    named: dict[str, Tensor] = {}
    for prefix, layer in network.named_modules():
        if isinstance(layer, Conv2d):
            names = ("weight", "bias") if layer.gain is None else ("bias",)
        elif isinstance(layer, LayerNorm):
            names = ("gain", "bias")
        else:
            continue
        paths = {f"{prefix}.{name}": getattr(layer, name) for name in names}
        named |= {path: tensor for path, tensor in paths.items() if path not in besides}
    return dict(zip(named, convert_together(dtype, *named.values()), strict=True))


def convert_together(dtype: torch.dtype, *tensors: Tensor) -> tuple[Tensor, ...]:
    """Convert tensors to another dtype, and their gradients back, by one operation each."""
    return _Convert.apply(dtype, *tensors) if tensors else ()


class _Convert(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, dtype: torch.dtype, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.dtypes = [t.dtype for t in tensors]
        ctx.strides = [t.stride() for t in tensors]
        ctx.set_materialize_grads(False)
        return _converted(tensors, [dtype] * len(tensors))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        if torch.is_grad_enabled():  # a second derivative follows each conversion
            pairs = zip(grads, ctx.dtypes, strict=True)
            return None, *(None if g is None else g.to(dtype) for g, dtype in pairs)
        given = zip(grads, ctx.dtypes, ctx.strides, strict=True)
        present = [(_with_strides(g, s), d) for g, d, s in given if g is not None]
        converted = iter(_converted(*zip(*present, strict=True)) if present else ())
        return None, *(None if g is None else next(converted) for g in grads)


def _with_strides(grad: Tensor, strides: tuple[int, ...]) -> Tensor:
    """Return the gradient with these strides if they describe its memory as well.

    Those of axes of size 1 are arbitrary, but operations on lists of tensors compare them.
    """
    pairs = zip(grad.shape, grad.stride(), strides, strict=True)
    same = all(size == 1 or own == other for size, own, other in pairs)
    return grad.as_strided(grad.shape, strides) if same else grad


def _converted(tensors: Iterable[Tensor], dtypes: Iterable[torch.dtype]) -> tuple[Tensor, ...]:
    copies = [torch.empty_like(t, dtype=d) for t, d in zip(tensors, dtypes, strict=True)]
    torch._foreach_copy_(copies, list(tensors))
    return tuple(copies)
