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

from .block import Block
from .conv2d import Conv2d
from .gated_attention import GatedAttention
from .gated_conv import GatedConv
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


def block_by_strips(
    block: Block, x: Tensor, context: Tensor | None, position: Tensor | None
) -> Tensor:
    """Apply a block, the biases and gains of which have a row for each strip.

    Args:
        block: Block of this form.
        x: Images `(B, F, H, W)`.
        context: Images `(B, C, H, W)`.
        position: `(F, H, W)`.
    """
    strips = Strips(x, block.conv.conv_in.bias.shape[1])
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
    """

    def __init__(self, images: Tensor, count: int) -> None:
        self.batch, _, self.height, self.width = images.shape
        self.count = count
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
        h = functional.dropout(_concat_elu(h), layer.dropout, layer.training)
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
        projected = _InMemory.apply(self.convolution(layer.proj_in, shifted))
        heads = (
            third.reshape(self.batch, -1, layer.heads, third.shape[-1] // layer.heads).transpose(
                1, 2
            )
            for third in projected.chunk(3, dim=-1)
        )
        attended = functional.scaled_dot_product_attention(*heads)
        merged = attended.transpose(1, 2).reshape(features.shape)
        dropped = functional.dropout(merged, layer.dropout, layer.training)
        return _gated_sum(features, self.convolution(layer.proj_out, dropped))


def _concat_elu(features: Tensor) -> Tensor:
    return torch.cat([functional.elu(features), functional.elu(-features)], dim=-1)


def _gated_sum(features: Tensor, gates: Tensor) -> Tensor:
    a, b = gates.chunk(2, dim=-1)
    return features + a * torch.sigmoid(b)


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
        x = x.contiguous()
        return x.as_strided(x.shape, x.stride())

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return grad


def _as_images(features: Tensor, sizes: tuple[int, int, int]) -> Tensor:
    batch, height, width = sizes
    channels = features.shape[-1]
    shape = batch, channels, height, width
    strides = height * width * channels, 1, width * channels, channels
    return features.contiguous().as_strided(shape, strides)


def _as_features(images: Tensor, positions: int) -> Tensor:
    return images.permute(0, 2, 3, 1).reshape(-1, positions, images.shape[1])
