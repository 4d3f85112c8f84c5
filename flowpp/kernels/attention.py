"""Attention by the CPU kernels, which store no weights, else by torch.

The compiled form equals the plain one up to rounding and computes the weights again in the
backward pass. Second derivatives go through the plain formula.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from .backend import backend_for
from .cpu.launch import call
from .double_backward import formula_gradients, needs_formula

SOURCE = "attention.cpp"


def attention(projected: Tensor, heads: int) -> Tensor:
    """Compute softmax(q k^T / sqrt(d)) v of all heads, merged: `(B, 3F, H, W) -> (B, F, H, W)`.

    Args:
        projected: Queries, keys and values. Its channels are ordered by q, k, v (slowest), then by
            head, then by d.
        heads: Number of heads.
    """
    if backend_for(projected, kernel="attention") == "cpu":
        return _Attention.apply(projected.contiguous(), heads)
    # Thirds of the channels, whose gradients are joined in the layout of the projection.
    query, key, value = (_heads(third, heads).mT for third in projected.chunk(3, dim=1))
    attended = functional.scaled_dot_product_attention(query, key, value)
    return _merged(attended.mT, projected)


def _twice_differentiable_attention(projected: Tensor, heads: int) -> Tensor:
    """Compute attention by plain products: torch's own has no second derivative on the CPU."""
    query, key, value = _split(projected, heads).unbind(1)
    weights = torch.softmax(query.mT @ key * query.shape[-2] ** -0.5, -1)
    return _merged(value @ weights.mT, projected)


def _split(projected: Tensor, heads: int) -> Tensor:
    """Reshape `(B, 3 * heads * d, H, W)` to `(B, 3, heads, d, H*W)`."""
    batch, channels, height, width = projected.shape
    return projected.reshape(batch, 3, heads, channels // (3 * heads), height * width)


def _heads(third: Tensor, heads: int) -> Tensor:
    """Reshape `(B, heads * d, H, W)` to `(B, heads, d, H*W)`."""
    batch, channels, height, width = third.shape
    return third.reshape(batch, heads, channels // heads, height * width)


def _merged(heads: Tensor, projected: Tensor) -> Tensor:
    """Reshape `(B, heads, d, H*W)` to `(B, F, H, W)`, with H and W as in `projected`."""
    batch, channels, height, width = projected.shape
    return heads.reshape(batch, channels // 3, height, width)


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, projected: Tensor, heads: int) -> Tensor:
        batch, channels, height, width = projected.shape
        merged = projected.new_empty(batch, channels // 3, height, width)
        maxima, sums = projected.new_empty(2, batch, heads, height * width).unbind()
        sizes = _head_sizes(projected, heads)
        call(SOURCE, "attention_forward", projected, *sizes, maxima, sums, merged)
        ctx.save_for_backward(projected, maxima, sums)
        ctx.heads = heads
        return merged

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        projected, maxima, sums = ctx.saved_tensors
        heads = ctx.heads
        if needs_formula(grad):
            return *formula_gradients(
                lambda p: _twice_differentiable_attention(p, heads), (projected,), grad
            ), None
        grad_projected = torch.empty_like(projected)
        call(
            SOURCE, "attention_backward", projected, maxima, sums, grad.contiguous(),
            *_head_sizes(projected, heads), grad_projected,
        )  # fmt: skip
        return grad_projected, None


def _head_sizes(projected: Tensor, heads: int) -> tuple[int, int, int, int, float]:
    """Return batch size, number of heads, d, number of positions, and 1 / sqrt(d)."""
    batch, channels, height, width = projected.shape
    depth = channels // (3 * heads)
    return batch, heads, depth, height * width, depth**-0.5
