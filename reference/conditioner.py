"""The networks that compute a coupling's parameters: gated convolutions and self-attention.

Section 3.2.2 of the paper, layer by layer as the released code has them. All arrays are
(batch, channels, height, width). Every layer has `initialize`, its data-dependent initialization:
it returns the fitted layer and that layer's output on the batch. Dropout happens only where a
generator is given as `rng`, and never during initialization.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from reference.bijectors.checks import as_images, check_multiple, owner_name, set_array
from reference.bijectors.sigmoid import sigmoid

LAYER_NORM_EPS = 1e-5
VARIANCE_FLOOR = 1e-8  # of data-dependent initialization
SQUARED_NORM_FLOOR = 1e-12  # of weight normalization

Array = np.ndarray
Rng = np.random.Generator


def concat_elu(x: Array) -> Array:
    """elu([x, -x]) on channels: F -> 2F, where elu(v) = v for v > 0, else e^v - 1."""
    both = np.concatenate([x, -x], axis=1)
    return np.where(both > 0, both, np.expm1(np.minimum(both, 0.0)))


def gate(x: Array) -> Array:
    """First half of the channels times the sigmoid of the second: 2F -> F."""
    value, opening = np.split(x, 2, axis=1)
    return value * sigmoid(opening)


def dropped(x: Array, rate: float, rng: Rng | None) -> Array:
    """Inverted dropout: x / (1 - rate) with probability 1 - rate, else 0."""
    if rng is None or rate == 0.0:
        return x
    return np.where(rng.random(x.shape) >= rate, x / (1.0 - rate), 0.0)


def check_rate(owner: object, rate: float) -> None:
    """Raise ValueError unless 0 <= rate < 1."""
    if not 0.0 <= rate < 1.0:
        raise ValueError(f"{owner_name(owner)} needs 0 <= dropout < 1, got {rate}")


@dataclass(frozen=True, eq=False)
class Conv2d:
    """y = kernel * x + bias: cross-correlation, stride 1, zero padding that keeps the size.

    Attributes:
        weight: (out, in, kh, kw), kh and kw odd; 1x1 for a dense layer on channels.
        bias: (out,).
        gain: (out,) switches weight normalization on: kernel = gain weight / ||weight||, the norm
            over (in, kh, kw), its square at least 1e-12. None: kernel = weight.
        init_scale: standard deviation of the output after data-dependent initialization.

    Raises:
        ValueError: on shapes that do not belong together, an even kernel, or other channels.
    """

    weight: Array
    bias: Array
    gain: Array | None = None
    init_scale: float = 1.0

    def __post_init__(self) -> None:
        weight = set_array(self, "weight", ndim=4)
        out, _, *size = weight.shape
        if any(n % 2 == 0 for n in size):
            raise ValueError(f"Conv2d needs a kernel of odd size, got {tuple(size)}")
        for name in ("bias", "gain") if self.gain is not None else ("bias",):
            if set_array(self, name).shape != (out,):
                raise ValueError(f"Conv2d needs {name} ({out},), got {getattr(self, name).shape}")

    @property
    def kernel(self) -> Array:
        """What the input is correlated with, (out, in, kh, kw)."""
        if self.gain is None:
            return self.weight
        squared = (self.weight**2).sum(axis=(1, 2, 3))
        factor = self.gain / np.sqrt(np.maximum(squared, SQUARED_NORM_FLOOR))
        return factor[:, None, None, None] * self.weight

    def _without_bias(self, x: Array) -> Array:
        x = as_images(x, self)
        kernel = self.kernel
        if x.shape[1] != kernel.shape[1]:
            raise ValueError(f"Conv2d needs {kernel.shape[1]} channels, got {x.shape[1]}")
        up, left = kernel.shape[2] // 2, kernel.shape[3] // 2
        padded = np.pad(x, ((0, 0), (0, 0), (up, up), (left, left)))
        windows = sliding_window_view(padded, kernel.shape[2:], axis=(2, 3))  # B, in, H, W, kh, kw
        return np.moveaxis(np.tensordot(windows, kernel, axes=((1, 4, 5), (1, 2, 3))), -1, 1)

    def __call__(self, x: Array) -> Array:
        """(B, in, H, W) -> (B, out, H, W)."""
        return self._without_bias(x) + self.bias[:, None, None]

    def initialize(self, x: Array) -> tuple[Conv2d, Array]:
        """Scale and shift so that every output channel has mean 0 and deviation `init_scale`.

        With m and v the mean and (biased) variance of kernel * x over batch and positions,
        q = init_scale / sqrt(v + 1e-8): the weight (or the gain, where there is one) is multiplied
        by q, and the bias becomes -m q.
        """
        y = self._without_bias(x)
        q = self.init_scale / np.sqrt(y.var(axis=(0, 2, 3)) + VARIANCE_FLOOR)
        bias = -y.mean(axis=(0, 2, 3)) * q
        if self.gain is None:
            fitted = dataclasses.replace(
                self, weight=self.weight * q[:, None, None, None], bias=bias
            )
        else:
            fitted = dataclasses.replace(self, gain=self.gain * q, bias=bias)
        return fitted, fitted(x)


@dataclass(frozen=True, eq=False)
class LayerNorm:
    """y = gain (x - mean) / sqrt(var + 1e-5) + bias, mean and variance over channels.

    Attributes:
        gain: (F,).
        bias: (F,).
    """

    gain: Array
    bias: Array

    def __post_init__(self) -> None:
        gain, bias = set_array(self, "gain", ndim=1), set_array(self, "bias", ndim=1)
        if gain.shape != bias.shape:
            raise ValueError(
                f"LayerNorm needs gain and bias of one shape, got {gain.shape} and {bias.shape}"
            )

    def __call__(self, x: Array) -> Array:
        """(B, F, H, W) -> the same."""
        x = as_images(x, self)
        if x.shape[1] != len(self.gain):
            raise ValueError(f"LayerNorm needs {len(self.gain)} channels, got {x.shape[1]}")
        centred = x - x.mean(axis=1, keepdims=True)
        normal = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + LAYER_NORM_EPS)
        return normal * self.gain[:, None, None] + self.bias[:, None, None]

    def initialize(self, x: Array) -> tuple[LayerNorm, Array]:
        """Nothing to fit."""
        return self, self(x)


@dataclass(frozen=True, eq=False)
class GatedConv:
    """x + gate(conv_out(concat_elu(conv_in(concat_elu(x)) + conv_context(concat_elu(context))))).

    Attributes:
        conv_in: 2F -> F channels.
        conv_out: 2F -> 2F channels; dropout comes before it.
        conv_context: from twice the context's channels to F, or None where there is no context.
        dropout: rate.

    Raises:
        ValueError: if a context is needed and missing, or given in vain.
    """

    conv_in: Conv2d
    conv_out: Conv2d
    conv_context: Conv2d | None = None
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_rate(self, self.dropout)

    def _check_context(self, context: Array | None) -> None:
        if self.conv_context is not None and context is None:
            raise ValueError("GatedConv needs a context, got none")
        if self.conv_context is None and context is not None:
            raise ValueError(f"GatedConv needs no context, got one of shape {np.shape(context)}")

    def __call__(self, x: Array, context: Array | None = None, *, rng: Rng | None = None) -> Array:
        """(B, F, H, W) -> the same."""
        self._check_context(context)
        h = self.conv_in(concat_elu(x))
        if self.conv_context is not None and context is not None:
            h = h + self.conv_context(concat_elu(context))
        return x + gate(self.conv_out(dropped(concat_elu(h), self.dropout, rng)))

    def initialize(self, x: Array, context: Array | None = None) -> tuple[GatedConv, Array]:
        """Fit the three convolutions in the order of the formula."""
        self._check_context(context)
        conv_in, h = self.conv_in.initialize(concat_elu(x))
        conv_context = self.conv_context
        if conv_context is not None and context is not None:
            conv_context, shown = conv_context.initialize(concat_elu(context))
            h = h + shown
        conv_out, h = self.conv_out.initialize(concat_elu(h))
        fitted = dataclasses.replace(
            self, conv_in=conv_in, conv_out=conv_out, conv_context=conv_context
        )
        return fitted, x + gate(h)


def add_position(x: Array, position: Array | None, owner: object) -> Array:
    """Add a position to x: of shape (F, H, W), or None for none.

    Raises:
        ValueError: on another shape.
    """
    if position is None:
        return x
    if position.shape != x.shape[1:]:
        raise ValueError(
            f"{owner_name(owner)} needs a position {x.shape[1:]}, got {position.shape}"
        )
    return x + position


@dataclass(frozen=True, eq=False)
class GatedAttention:
    """x + gate(proj_out(attention(proj_in(x + position)))): multi-head, over all positions.

    proj_in gives queries, keys and values, in that order, each with channels (head, F / heads);
    attention is softmax(q k^T / sqrt(F / heads)) v in every head, without a mask. The residual is
    x without its position; dropout acts on the merged heads, not on the attention weights.

    Attributes:
        proj_in: 1x1, F -> 3F.
        proj_out: 1x1, F -> 2F.
        heads: must divide F.
        dropout: rate.
    """

    proj_in: Conv2d
    proj_out: Conv2d
    heads: int
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_rate(self, self.dropout)
        if self.heads < 1:
            raise ValueError(f"GatedAttention needs at least 1 head, got {self.heads}")
        check_multiple(self, self.proj_in.weight.shape[0], 3 * self.heads, "projected channels")

    def _attend(self, projected: Array) -> Array:
        """(B, 3F, H, W) -> (B, F, H, W)."""
        batch, channels, height, width = projected.shape
        depth = channels // (3 * self.heads)
        q, k, v = np.moveaxis(
            projected.reshape(batch, 3, self.heads, depth, height * width), 1, 0
        )  # each (B, heads, depth, positions)
        scores = np.einsum("bndi,bndj->bnij", q, k) / np.sqrt(depth)
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights = weights / weights.sum(axis=-1, keepdims=True)
        merged = np.einsum("bnij,bndj->bndi", weights, v)
        return merged.reshape(batch, channels // 3, height, width)

    def __call__(
        self, x: Array, position: Array | None = None, *, rng: Rng | None = None
    ) -> Array:
        """(B, F, H, W) -> the same."""
        attended = self._attend(self.proj_in(add_position(x, position, self)))
        return x + gate(self.proj_out(dropped(attended, self.dropout, rng)))

    def initialize(self, x: Array, position: Array | None = None) -> tuple[GatedAttention, Array]:
        """Fit proj_in, then proj_out."""
        proj_in, projected = self.proj_in.initialize(add_position(x, position, self))
        proj_out, h = self.proj_out.initialize(self._attend(projected))
        return dataclasses.replace(self, proj_in=proj_in, proj_out=proj_out), x + gate(h)


@dataclass(frozen=True, eq=False)
class GatedMaxout:
    """x + gate(proj_out(max over threes of proj_in(x + position))): the ablation of attention.

    The 3F channels of proj_in are F groups of 3 neighbours.

    Attributes:
        proj_in: 1x1, F -> 3F.
        proj_out: 1x1, F -> 2F; dropout comes before it.
        dropout: rate.
    """

    proj_in: Conv2d
    proj_out: Conv2d
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_rate(self, self.dropout)
        check_multiple(self, self.proj_in.weight.shape[0], 3, "projected channels")

    @staticmethod
    def _largest(projected: Array) -> Array:
        batch, channels, height, width = projected.shape
        return projected.reshape(batch, channels // 3, 3, height, width).max(axis=2)

    def __call__(
        self, x: Array, position: Array | None = None, *, rng: Rng | None = None
    ) -> Array:
        """(B, F, H, W) -> the same."""
        h = self._largest(self.proj_in(add_position(x, position, self)))
        return x + gate(self.proj_out(dropped(h, self.dropout, rng)))

    def initialize(self, x: Array, position: Array | None = None) -> tuple[GatedMaxout, Array]:
        """Fit proj_in, then proj_out."""
        proj_in, projected = self.proj_in.initialize(add_position(x, position, self))
        proj_out, h = self.proj_out.initialize(self._largest(projected))
        return dataclasses.replace(self, proj_in=proj_in, proj_out=proj_out), x + gate(h)


@dataclass(frozen=True, eq=False)
class Block:
    """Gated convolution, norm, gated attention, norm; all but the first may be absent.

    Attributes:
        conv: the gated convolution.
        norm: after it.
        attention: GatedAttention or GatedMaxout.
        attention_norm: after that.
    """

    conv: GatedConv
    norm: LayerNorm | None = None
    attention: GatedAttention | GatedMaxout | None = None
    attention_norm: LayerNorm | None = None

    def __call__(
        self,
        x: Array,
        context: Array | None = None,
        position: Array | None = None,
        *,
        rng: Rng | None = None,
    ) -> Array:
        """(B, F, H, W) -> the same."""
        x = self.conv(x, context, rng=rng)
        if self.norm is not None:
            x = self.norm(x)
        if self.attention is not None:
            x = self.attention(x, position, rng=rng)
        if self.attention_norm is not None:
            x = self.attention_norm(x)
        return x

    def initialize(
        self, x: Array, context: Array | None = None, position: Array | None = None
    ) -> tuple[Block, Array]:
        """Fit the convolution, then the attention."""
        conv, x = self.conv.initialize(x, context)
        if self.norm is not None:
            x = self.norm(x)
        attention = self.attention
        if attention is not None:
            attention, x = attention.initialize(x, position)
        if self.attention_norm is not None:
            x = self.attention_norm(x)
        return dataclasses.replace(self, conv=conv, attention=attention), x


@dataclass(frozen=True, eq=False)
class Conditioner:
    """proj_in, the blocks one after the other, proj_out: what a coupling asks for its parameters.

    Attributes:
        proj_in: to F channels.
        blocks: tuple of Block, F -> F.
        proj_out: to the parameters; None (as in the dequantizer's context network): the last
            block's output is the result.
        position: learned position embedding (F, H, W), shared by all blocks; None: none.
        activate_last: whether a concat-ELU comes before proj_out (the released ImageNet family).

    Raises:
        ValueError: if activate_last is on without a proj_out.
    """

    proj_in: Conv2d
    blocks: tuple[Block, ...]
    proj_out: Conv2d | None = None
    position: Array | None = None
    activate_last: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "blocks", tuple(self.blocks))
        if self.position is not None:
            set_array(self, "position", ndim=3)
        if self.activate_last and self.proj_out is None:
            raise ValueError("Conditioner needs a proj_out for activate_last, got None")

    def _activated(self, h: Array) -> Array:
        return concat_elu(h) if self.activate_last else h

    def __call__(self, x: Array, context: Array | None = None, *, rng: Rng | None = None) -> Array:
        """(B, in, H, W) -> (B, out, H, W)."""
        h = self.proj_in(x)
        for block in self.blocks:
            h = block(h, context, self.position, rng=rng)
        return h if self.proj_out is None else self.proj_out(self._activated(h))

    def initialize(self, x: Array, context: Array | None = None) -> tuple[Conditioner, Array]:
        """Fit layer after layer, each on what the fitted ones before it give out."""
        proj_in, h = self.proj_in.initialize(x)
        blocks = []
        for block in self.blocks:
            block, h = block.initialize(h, context, self.position)
            blocks.append(block)
        proj_out = self.proj_out
        if proj_out is not None:
            proj_out, h = proj_out.initialize(self._activated(h))
        fitted = dataclasses.replace(
            self, proj_in=proj_in, blocks=tuple(blocks), proj_out=proj_out
        )
        return fitted, h
