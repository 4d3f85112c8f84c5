"""The networks inside couplings: gated convolutions and gated self-attention.

All layers speak `(batch, channels, height, width)`. Each class takes its tensors and sub-layers as
arguments, as its twin in the reference does; `create` makes one with fresh random weights.

Source: Flow++ section 3.2.3 and figure 2; details after the authors' released code.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from .kernels.attention import attention
from .kernels.convolution import convolution
from .kernels.layers import concat_elu, concat_elu_dropout, dropout, gated_sum, layer_norm

KERNEL_DEVIATION = 0.05
POSITION_DEVIATION = 0.01
LAYER_NORM_EPSILON = 1e-5
SQUARED_NORM_FLOOR = 1e-12
VARIANCE_OFFSET = 1e-8
BEFORE_GATE = 0.1
"""Output scale, at initialization, of layers before a gate and of a coupling's last layer."""


def check_dropout(who: str, rate: float) -> None:
    """Refuse a rate outside [0, 1): at 1 nothing would be left."""
    if not 0 <= rate < 1:
        raise ValueError(f"{who} needs 0 <= dropout < 1, got {rate}")


def add_position(x: Tensor, position: Tensor | None, who: str) -> Tensor:
    """x + position of shape `(F, H, W)`; None for none.

    Raises:
        ValueError: a position of another shape than one example of x.
    """
    if position is None:
        return x
    if position.shape != x.shape[1:]:
        raise ValueError(
            f"{who} needs a position of shape {tuple(x.shape[1:])}, got {tuple(position.shape)}"
        )
    return x + position


class Conv2d(nn.Module):
    """Cross-correlation with zero padding that keeps height and width, and a bias.

    Args:
        weight: `(out, in, k, k)`, k odd.
        bias: `(out,)`.
        gain: `(out,)` switches weight normalization on: the kernel is gain * weight / ||weight||,
            the norm taken for each output channel.
        init_scale: standard deviation of the output after data-dependent initialization.

    Raises:
        ValueError: shapes that do not belong together, an even kernel, a wrong number of channels.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor, gain: Tensor | None = None, init_scale: float = 1.0
    ) -> None:
        super().__init__()
        if weight.ndim != 4 or weight.shape[2] % 2 == 0 or weight.shape[3] % 2 == 0:
            raise ValueError(
                f"Conv2d needs a weight (out, in, k, k) with k odd, got {tuple(weight.shape)}"
            )
        for name, vector in (("bias", bias), ("gain", gain)):
            if vector is not None and vector.shape != weight.shape[:1]:
                raise ValueError(
                    f"Conv2d needs {name} of shape ({weight.shape[0]},), got {tuple(vector.shape)}"
                )
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(bias)
        self.gain = None if gain is None else nn.Parameter(gain)
        self.init_scale = init_scale

    @classmethod
    def create(
        cls,
        channels: int,
        out: int,
        kernel: int = 1,
        *,
        weight_norm: bool = False,
        init_scale: float = 1.0,
    ) -> Conv2d:
        """Gaussian kernel of deviation 0.05, bias 0, gain 1."""
        weight = KERNEL_DEVIATION * torch.randn(out, channels, kernel, kernel)
        gain = torch.ones(out) if weight_norm else None
        return cls(weight, torch.zeros(out), gain, init_scale)

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 4 or x.shape[1] != self.weight.shape[1]:
            raise ValueError(
                f"Conv2d needs (batch, {self.weight.shape[1]}, height, width), "
                f"got {tuple(x.shape)}"
            )
        return convolution(x, self.kernel(), self.bias)

    def kernel(self) -> Tensor:
        """The kernel that is applied: the weight, or its normalized form."""
        if self.gain is None:
            return self.weight
        squared = self.weight.square().sum((1, 2, 3)).clamp(min=SQUARED_NORM_FLOOR)
        return self.weight * (self.gain * torch.rsqrt(squared))[:, None, None, None]

    @torch.no_grad()
    def initialize(self, x: Tensor) -> None:
        """Rescale so that this batch comes out with mean 0 and deviation `init_scale`."""
        self.bias.zero_()
        variance, mean = torch.var_mean(self.forward(x), dim=(0, 2, 3), correction=0)
        scale = self.init_scale * torch.rsqrt(variance + VARIANCE_OFFSET)
        if self.gain is None:
            self.weight.mul_(scale[:, None, None, None])
        else:
            self.gain.mul_(scale)
        self.bias.copy_(-mean * scale)

    def extra_repr(self) -> str:
        out, channels, height, width = self.weight.shape
        return f"{channels} -> {out}, {height}x{width}, weight_norm={self.gain is not None}"


class LayerNorm(nn.Module):
    """(x - mean) / sqrt(var + 1e-5) * gain + bias, over the channels of each position.

    Args:
        gain: `(F,)`.
        bias: `(F,)`.

    Raises:
        ValueError: gain and bias that are not vectors of one length, other channels than that.
    """

    def __init__(self, gain: Tensor, bias: Tensor) -> None:
        super().__init__()
        if gain.ndim != 1 or gain.shape != bias.shape:
            raise ValueError(
                "LayerNorm needs gain and bias of one shape (F,), "
                f"got {tuple(gain.shape)} and {tuple(bias.shape)}"
            )
        self.gain = nn.Parameter(gain)
        self.bias = nn.Parameter(bias)

    @classmethod
    def create(cls, filters: int) -> LayerNorm:
        """Gain 1, bias 0."""
        return cls(torch.ones(filters), torch.zeros(filters))

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 4 or x.shape[1] != len(self.gain):
            raise ValueError(
                f"LayerNorm needs (batch, {len(self.gain)}, height, width), got {tuple(x.shape)}"
            )
        return layer_norm(x, self.gain, self.bias, LAYER_NORM_EPSILON)


class GatedConv(nn.Module):
    """x + gate(conv_out(dropout(e(conv_in(e(x)) + conv_context(e(c)))))), e = concat_elu.

    Args:
        conv_in: 2F -> F, 3x3.
        conv_out: 2F -> 2F; 1x1 inside couplings, 3x3 in the context network.
        conv_context: 2C -> F, 1x1, for a context of C channels; None where there is no context.
        dropout: rate, during training.

    Raises:
        ValueError: a context without `conv_context`, or the other way round; dropout not in
            [0, 1).
    """

    def __init__(
        self,
        conv_in: Conv2d,
        conv_out: Conv2d,
        conv_context: Conv2d | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_dropout("GatedConv", dropout)
        self.conv_in = conv_in
        self.conv_out = conv_out
        self.conv_context = conv_context
        self.dropout = dropout

    @classmethod
    def create(
        cls,
        filters: int,
        *,
        kernel_out: int = 1,
        context: int | None = None,
        dropout: float = 0.0,
        weight_norm: bool = False,
    ) -> GatedConv:
        """Fresh weights; `context` is the number of context channels."""
        return cls(
            Conv2d.create(2 * filters, filters, 3, weight_norm=weight_norm),
            Conv2d.create(
                2 * filters,
                2 * filters,
                kernel_out,
                weight_norm=weight_norm,
                init_scale=BEFORE_GATE,
            ),
            None
            if context is None
            else Conv2d.create(2 * context, filters, weight_norm=weight_norm),
            dropout,
        )

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        if (context is None) != (self.conv_context is None):
            needed = "no context" if self.conv_context is None else "a context"
            got = "none" if context is None else f"one of shape {tuple(context.shape)}"
            raise ValueError(f"GatedConv needs {needed}, got {got}")
        h = self.conv_in(concat_elu(x))
        if context is not None and self.conv_context is not None:
            h = h + self.conv_context(concat_elu(context))
        h = concat_elu_dropout(h, self.dropout, training=self.training)
        return gated_sum(x, self.conv_out(h))


class GatedAttention(nn.Module):
    """x + gate(proj_out(dropout(softmax(q k^T / sqrt(d)) v))) for each head.

    q, k and v are the thirds of proj_in(x + position).

    Args:
        proj_in: F -> 3F, 1x1. Its output channels are q, k, v (slowest), then the head, then d.
        proj_out: F -> 2F, 1x1.
        heads: number of heads n, F = n * d.
        dropout: rate, during training, on the merged heads (not on the attention weights).

    Raises:
        ValueError: heads do not divide the filters, dropout not in [0, 1), a position of another
            shape than (F, H, W).
    """

    def __init__(
        self, proj_in: Conv2d, proj_out: Conv2d, heads: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        check_dropout("GatedAttention", dropout)
        filters = proj_in.weight.shape[1]
        if heads < 1 or filters % heads:
            raise ValueError(
                f"GatedAttention needs heads that divide {filters} filters, got {heads}"
            )
        self.proj_in = proj_in
        self.proj_out = proj_out
        self.heads = heads
        self.dropout = dropout

    @classmethod
    def create(
        cls, filters: int, heads: int, *, dropout: float = 0.0, weight_norm: bool = False
    ) -> GatedAttention:
        """Fresh weights."""
        return cls(
            Conv2d.create(filters, 3 * filters, weight_norm=weight_norm),
            Conv2d.create(filters, 2 * filters, weight_norm=weight_norm, init_scale=BEFORE_GATE),
            heads,
            dropout,
        )

    def forward(self, x: Tensor, position: Tensor | None = None) -> Tensor:
        projected = self.proj_in(add_position(x, position, "GatedAttention"))
        merged = dropout(attention(projected, self.heads), self.dropout, training=self.training)
        return gated_sum(x, self.proj_out(merged))


class GatedMaxout(nn.Module):
    """x + gate(proj_out(dropout(max over 3 neighbouring channels of proj_in(x + position)))).

    What the paper's ablation without attention has in its place, with as many parameters.

    Args:
        proj_in: F -> 3F, 1x1. Output channels 3f, 3f + 1, 3f + 2 compete for channel f.
        proj_out: F -> 2F, 1x1.
        dropout: rate, during training.

    Raises:
        ValueError: projected channels that are no multiple of 3, dropout not in [0, 1), a
            position of another shape than (F, H, W).
    """

    def __init__(self, proj_in: Conv2d, proj_out: Conv2d, dropout: float = 0.0) -> None:
        super().__init__()
        check_dropout("GatedMaxout", dropout)
        if proj_in.weight.shape[0] % 3:
            raise ValueError(
                "GatedMaxout needs a multiple of 3 as number of projected channels, "
                f"got {proj_in.weight.shape[0]}"
            )
        self.proj_in = proj_in
        self.proj_out = proj_out
        self.dropout = dropout

    @classmethod
    def create(
        cls, filters: int, *, dropout: float = 0.0, weight_norm: bool = False
    ) -> GatedMaxout:
        """Fresh weights."""
        return cls(
            Conv2d.create(filters, 3 * filters, weight_norm=weight_norm),
            Conv2d.create(filters, 2 * filters, weight_norm=weight_norm, init_scale=BEFORE_GATE),
            dropout,
        )

    def forward(self, x: Tensor, position: Tensor | None = None) -> Tensor:
        projected = self.proj_in(add_position(x, position, "GatedMaxout"))
        h = projected.unflatten(1, (-1, 3)).amax(2)
        h = dropout(h, self.dropout, training=self.training)
        return gated_sum(x, self.proj_out(h))


class Block(nn.Module):
    """conv, then norm, then attention, then attention_norm; what is None is left out.

    Args:
        conv: a GatedConv.
        norm: LayerNorm after it.
        attention: a GatedAttention or GatedMaxout.
        attention_norm: LayerNorm after that.
    """

    def __init__(
        self,
        conv: GatedConv,
        norm: LayerNorm | None = None,
        attention: GatedAttention | GatedMaxout | None = None,
        attention_norm: LayerNorm | None = None,
    ) -> None:
        super().__init__()
        self.conv = conv
        self.norm = norm
        self.attention = attention
        self.attention_norm = attention_norm

    def forward(
        self, x: Tensor, context: Tensor | None = None, position: Tensor | None = None
    ) -> Tensor:
        x = self.conv(x, context)
        if self.norm is not None:
            x = self.norm(x)
        if self.attention is not None:
            x = self.attention(x, position)
        if self.attention_norm is not None:
            x = self.attention_norm(x)
        return x


class Conditioner(nn.Module):
    """proj_out(block_n(... block_1(proj_in(x)))).

    Args:
        proj_in: C -> F, 3x3.
        blocks: all on F channels; the context goes to each of them.
        proj_out: F -> parameters, 3x3; None for a network whose features are the result.
        position: `(F, H, W)`, added before each attention; one for all blocks.
        activate_last: concat_elu before proj_out, which then takes 2F channels (the released
            ImageNet family has it, the CIFAR family has not).

    Raises:
        ValueError: a position without three axes, or `activate_last` without `proj_out`.
    """

    autocast: torch.dtype | None = None
    """Compute inside in this half precision where torch's autocast does so; the result has the
    input's dtype all the same. See `flowpp.config.build.set_compute`."""

    def __init__(
        self,
        proj_in: Conv2d,
        blocks: Iterable[Block],
        proj_out: Conv2d | None = None,
        position: Tensor | None = None,
        activate_last: bool = False,  # noqa: FBT001, FBT002  (a field, as in the reference)
    ) -> None:
        super().__init__()
        if position is not None and position.ndim != 3:
            raise ValueError(
                f"Conditioner needs a position (F, H, W), got shape {tuple(position.shape)}"
            )
        if activate_last and proj_out is None:
            raise ValueError("Conditioner needs a proj_out for activate_last, got None")
        self.proj_in = proj_in
        self.blocks = nn.ModuleList(blocks)
        self.proj_out = proj_out
        self.position = None if position is None else nn.Parameter(position)
        self.activate_last = activate_last

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        if self.autocast is None:
            return self._network(x, context)
        with torch.autocast(x.device.type, self.autocast):
            return self._network(x, context).to(x.dtype)

    def _network(self, x: Tensor, context: Tensor | None) -> Tensor:
        h = self.proj_in(x)
        for block in self.blocks:
            h = block(h, context, self.position)
        if self.proj_out is None:
            return h
        return self.proj_out(concat_elu(h) if self.activate_last else h)
