"""A block in the form that torch.compile turns into the fewest kernels.

All elementwise operations and sums work on features `(B * S, P, C)`: S strips of an image, P
positions in each, channels last as in memory on CUDA devices. Biases and gains have a row for
each strip, `(B, S, C)`: their gradients are sums over P, which the compiler computes in the
kernels that write the summands. Convolutions and attention see whole images.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from flowpp.kernels.convolution import HALF

from .block import Block
from .conv2d import Conv2d
from .gated_attention import GatedAttention
from .gated_conv import GatedConv
from .hashed_dropout import hashed_dropout
from .layer_norm import LAYER_NORM_EPSILON, LayerNorm
from .position import check_position


def has_known_form(block: nn.Module) -> bool:
    """Return whether a block consists of the layers that `block_by_strips` computes."""
    kinds = {
        "conv": GatedConv,
        "norm": LayerNorm,
        "attention": GatedAttention,
        "attention_norm": LayerNorm,
    }
    return type(block) is Block and all(
        getattr(block, name) is None or type(getattr(block, name)) is kind
        for name, kind in kinds.items()
    )


def has_dropout(block: nn.Module) -> bool:
    """Return whether a block of this form draws random numbers in training."""
    layers = (block.conv, block.attention)
    return any(isinstance(x, (GatedConv, GatedAttention)) and x.dropout for x in layers)


def block_by_strips(
    block: Block,
    x: Tensor,
    context: Tensor | None,
    position: Tensor | None,
    seeds: Tensor | None,
) -> Tensor:
    """Apply a block, the biases and gains of which have a row for each strip.

    Args:
        block: Block of this form.
        x: Images `(B, F, H, W)`.
        context: Images `(B, C, H, W)`.
        position: `(F, H, W)`.
        seeds: Keys of the random numbers, int32 `(2, 2)`, for the two dropouts; needed in training
            if there is dropout.
    """
    strips = Strips(x, block.conv.conv_in.bias.shape[1], seeds)
    features = strips.gated_conv(block.conv, strips.features(x), context)
    if block.norm is not None:
        features = strips.layer_norm(block.norm, features)
    if isinstance(block.attention, GatedAttention):
        features = strips.gated_attention(block.attention, features, position)
    if block.attention_norm is not None:
        features = strips.layer_norm(block.attention_norm, features)
    return strips.images(features)


class Strips:
    """The layers of a block on features of images of one shape.

    Args:
        images: Images `(B, C, H, W)`.
        count: Number of strips S of an image.
        seeds: Keys for the dropout of the convolution and of the attention.
    """

    def __init__(self, images: Tensor, count: int, seeds: Tensor | None) -> None:
        self.batch, _, self.height, self.width = images.shape
        self.count = count
        self.seeds = seeds
        self.positions = self.height * self.width // count

    def features(self, images: Tensor) -> Tensor:
        """Return images `(B, C, H, W)` as features."""
        return _Features.apply(images, self.positions)

    def images(self, features: Tensor) -> Tensor:
        """Return features as images `(B, C, H, W)`."""
        return _Images.apply(features, (self.batch, self.height, self.width))

    def convolution(self, layer: Conv2d, features: Tensor) -> Tensor:
        """Apply a `Conv2d`, with the bias added in float32."""
        kernel = layer.kernel().to(features.dtype)
        padding = kernel.shape[2] // 2, kernel.shape[3] // 2
        y = self.features(functional.conv2d(self.images(features), kernel, padding=padding))
        return (y + layer.bias.flatten(0, 1)[:, None]).to(y.dtype)

    def product(self, layer: Conv2d, features: Tensor) -> Tensor:
        """Apply a 1x1 `Conv2d` as a matrix product, which adds the bias."""
        kernel = layer.kernel().to(features.dtype).flatten(1)
        rows = layer.bias
        bias = rows.detach()[0, 0].to(features.dtype)
        return _BiasByStrip.apply(functional.linear(features, kernel, bias), rows)

    def dropout(self, features: Tensor, layer: GatedConv | GatedAttention, place: int) -> Tensor:
        """Apply a layer's dropout, with the keys of its place in the block."""
        if not (layer.training and layer.dropout):
            return features
        assert self.seeds is not None
        return hashed_dropout(features, layer.dropout, self.seeds[place])

    def layer_norm(self, layer: LayerNorm, features: Tensor) -> Tensor:
        """Apply a `LayerNorm`, computed in float32 at least."""
        wide = features.to(torch.promote_types(features.dtype, torch.float32))
        variance, mean = torch.var_mean(wide, dim=-1, correction=0, keepdim=True)
        normalized = (wide - mean) * torch.rsqrt(variance + LAYER_NORM_EPSILON)
        gain, bias = (vector.flatten(0, 1)[:, None] for vector in (layer.gain, layer.bias))
        return (normalized * gain + bias).to(features.dtype)

    def gated_conv(self, layer: GatedConv, features: Tensor, context: Tensor | None) -> Tensor:
        """Apply a `GatedConv`."""
        layer.check_context(context)
        h = self.convolution(layer.conv_in, _concat_elu(features))
        if context is not None and layer.conv_context is not None:
            h = h + self.convolution(layer.conv_context, _concat_elu(self.features(context)))
        h = self.dropout(_concat_elu(h), layer, 0)
        return _gated_sum(features, self.convolution(layer.conv_out, h))

    def gated_attention(
        self, layer: GatedAttention, features: Tensor, position: Tensor | None
    ) -> Tensor:
        """Apply a `GatedAttention`."""
        shifted = features
        if position is not None:
            check_position(self.images(features), position, layer)
            by_strip = position.permute(1, 2, 0).reshape(1, self.count, self.positions, -1)
            wide = features.unflatten(0, (self.batch, self.count)) + by_strip
            shifted = wide.flatten(0, 1).to(features.dtype)
        projected = _InMemory.apply(self.product(layer.proj_in, shifted))
        heads = (
            third.reshape(self.batch, -1, layer.heads, third.shape[-1] // layer.heads).transpose(
                1, 2
            )
            for third in projected.chunk(3, dim=-1)
        )
        attended = functional.scaled_dot_product_attention(*heads)
        merged = attended.transpose(1, 2).reshape(features.shape)
        dropped = self.dropout(merged, layer, 1)
        return _gated_sum(features, self.convolution(layer.proj_out, dropped))


def _concat_elu(features: Tensor) -> Tensor:
    return _ConcatElu.apply(features)


def _gated_sum(features: Tensor, gates: Tensor) -> Tensor:
    return _GatedSum.apply(features, gates)


# The compiler computes all parts of a concatenation for each of its numbers, and keeps one. So the
# exponentials of concat-ELU are computed after it, or once for both parts. For gates, where both
# parts have one sigmoid in common, the same took a third longer on a GPU.


class _ConcatElu(torch.autograd.Function):
    """(elu(x), elu(-x)), along the last axis."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        both = torch.cat([x, -x], dim=-1)
        if x.dtype in HALF:  # too coarse to show that exp - 1 has absolute errors of 6e-8
            wide = both.float()
            return wide.where(wide > 0, torch.exp(-wide.abs()) - 1).to(x.dtype)
        return both.where(both > 0, torch.expm1(-both.abs()))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        upper, lower = grad.chunk(2, dim=-1)
        slope = torch.exp(-x.abs())
        return torch.where(x > 0, upper - lower * slope, upper * slope - lower)


class _GatedSum(torch.autograd.Function):
    """x + a sigmoid(b), for gates (a, b) along the last axis."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gates: Tensor) -> Tensor:
        ctx.save_for_backward(gates)
        a, b = gates.chunk(2, dim=-1)
        return x + a * torch.sigmoid(b)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        (gates,) = ctx.saved_tensors
        grad = _in_memory(grad)  # in its own dtype; the sums that follow read it twice
        a, b = gates.chunk(2, dim=-1)
        share = torch.sigmoid(b)
        return grad, torch.cat([grad * share, grad * a * (share * (1 - share))], dim=-1)


class _BiasByStrip(torch.autograd.Function):
    """A sum with a bias that was added already: its gradient by the bias's rows `(B, S, C)`."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, rows: Tensor) -> Tensor:
        ctx.rows = rows.shape, rows.dtype
        return y.view_as(y)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        shape, dtype = ctx.rows
        return grad, grad.sum(1, dtype=dtype).view(shape)


# The compiler computes a view again for each of its readers, and copies it for a convolution,
# unless its argument is in memory already; the argument of as_strided is.


class _Images(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, sizes: tuple[int, int, int]) -> Tensor:
        ctx.positions = features.shape[1]
        return _as_images(features, sizes)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return _as_features(grad, ctx.positions), None


class _Features(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, positions: int) -> Tensor:
        ctx.sizes = images.shape[0], images.shape[2], images.shape[3]
        return _as_features(images, positions)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return _as_images(grad, ctx.sizes), None


class _InMemory(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return _in_memory(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return grad


def _in_memory(x: Tensor) -> Tensor:
    x = x.contiguous()
    return x.as_strided(x.shape, x.stride())


def _as_images(features: Tensor, sizes: tuple[int, int, int]) -> Tensor:
    batch, height, width = sizes
    channels = features.shape[-1]
    shape = batch, channels, height, width
    strides = height * width * channels, 1, width * channels, channels
    return features.contiguous().as_strided(shape, strides)


def _as_features(images: Tensor, positions: int) -> Tensor:
    return images.permute(0, 2, 3, 1).reshape(-1, positions, images.shape[1])
