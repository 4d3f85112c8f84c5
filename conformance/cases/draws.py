"""Random inputs, networks and bijectors of the cases.

Weights are drawn so that features have size 1 and a coupling's parameters differ between channels
and positions: a network at its initial zeros would hide most mistakes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from reference.bijectors import ActNorm, Bijector, Coupling, Flip, InvertibleConv
from reference.conditioner import (
    Block,
    Conditioner,
    Conv2d,
    GatedAttention,
    GatedConv,
    GatedMaxout,
    LayerNorm,
)
from reference.elementwise import AffineFamily, MixtureLogisticFamily

from ..adapter import NotSupported

Rng = np.random.Generator
BATCH = 3
FILTERS = 8
HEADS = 2
CONTEXT = 4


def needs(thing: Any, method: str) -> Callable:
    """Return an optional method of an implementation's object.

    Raises:
        NotSupported: The implementation lacks it.
    """
    found = getattr(thing, method, None)
    if found is None:
        raise NotSupported(f"the implementation has no {method}")
    return found


def normal(*shape: int, scale: float = 1.0) -> Callable[[Rng], np.ndarray]:
    """Return a draw of B examples from N(0, scale^2)."""
    return lambda rng: scale * rng.standard_normal((BATCH, *shape))


def uniform(*shape: int, low: float, high: float) -> Callable[[Rng], np.ndarray]:
    """Return a draw of B examples from a uniform distribution."""
    return lambda rng: rng.uniform(low, high, (BATCH, *shape))


def magnitudes(*shape: int, largest: float) -> Callable[[Rng], np.ndarray]:
    """Return a draw of every magnitude from 1e-3 to `largest`, and of 0.

    The second example is the first one's negative: both tails are tried equally far.
    """

    def draw(rng: Rng) -> np.ndarray:
        size = 10.0 ** rng.uniform(-3.0, np.log10(largest), (BATCH, *shape))
        x = size * rng.choice([-1.0, 1.0], (BATCH, *shape))
        x[0].flat[0], x[0].flat[-1], x[0].flat[1] = 0.0, largest, -largest
        return opposite(x)

    return draw


def opposite(x: np.ndarray) -> np.ndarray:
    """Make the second example the negative of the first, in place."""
    x[1] = -x[0]
    return x


def conv(
    rng: Rng,
    inputs: int,
    outputs: int,
    kernel: int = 1,
    *,
    weight_norm: bool = False,
    scale: float = 1.0,
    bias_scale: float = 0.2,
) -> Conv2d:
    """Draw a convolution with output of size `scale` for input of size 1."""
    weight = rng.standard_normal((outputs, inputs, kernel, kernel))
    if not weight_norm:
        weight *= scale / np.sqrt(inputs * kernel * kernel)
    gain = scale * rng.uniform(0.5, 1.5, outputs) if weight_norm else None
    return Conv2d(weight, bias_scale * rng.standard_normal(outputs), gain)


def layer_norm(rng: Rng, filters: int) -> LayerNorm:
    """Draw a layer norm with gains around 1."""
    return LayerNorm(rng.uniform(0.5, 1.5, filters), 0.2 * rng.standard_normal(filters))


def gated_conv(
    rng: Rng, filters: int, *, context: int = 0, kernel: int = 1, weight_norm: bool = False
) -> GatedConv:
    """Draw a gated convolution.

    Args:
        rng: Random generator.
        filters: Number of channels.
        context: Number of channels of the context; 0 for none.
        kernel: Kernel size of the last convolution.
        weight_norm: Whether the convolutions have weight normalization.
    """
    return GatedConv(
        conv(rng, 2 * filters, filters, 3, weight_norm=weight_norm),
        conv(rng, 2 * filters, 2 * filters, kernel, weight_norm=weight_norm),
        conv(rng, 2 * context, filters, weight_norm=weight_norm) if context else None,
    )


def attention(rng: Rng, filters: int, heads: int, *, weight_norm: bool = False) -> GatedAttention:
    """Draw an attention with scores larger than 1, so that its weights are far from equal."""
    return GatedAttention(
        conv(rng, filters, 3 * filters, weight_norm=weight_norm, scale=1.5),
        conv(rng, filters, 2 * filters, weight_norm=weight_norm),
        heads,
    )


def maxout(rng: Rng, filters: int) -> GatedMaxout:
    """Draw a gated maxout, the ablation of attention."""
    return GatedMaxout(conv(rng, filters, 3 * filters), conv(rng, filters, 2 * filters))


def block(
    rng: Rng,
    filters: int = FILTERS,
    *,
    context: int = 0,
    mixing: str = "attention",
    weight_norm: bool = False,
) -> Block:
    """Draw a block; `mixing` is "attention", "maxout" or "none"."""
    gated = gated_conv(rng, filters, context=context, weight_norm=weight_norm)
    if mixing == "none":
        return Block(gated, layer_norm(rng, filters))
    mixer = (
        maxout(rng, filters)
        if mixing == "maxout"
        else attention(rng, filters, HEADS, weight_norm=weight_norm)
    )
    return Block(gated, layer_norm(rng, filters), mixer, layer_norm(rng, filters))


def conditioner(
    rng: Rng,
    inputs: int,
    outputs: int | None,
    height: int,
    width: int,
    *,
    filters: int = FILTERS,
    blocks: int = 1,
    context: int = 0,
    mixing: str = "attention",
    weight_norm: bool = False,
    activate_last: bool = False,
) -> Conditioner:
    """Draw a network; if `outputs` is None, one that returns its features."""
    position = None if mixing == "none" else 0.5 * rng.standard_normal((filters, height, width))
    return Conditioner(
        conv(rng, inputs, filters, 3, weight_norm=weight_norm),
        tuple(
            block(rng, filters, context=context, mixing=mixing, weight_norm=weight_norm)
            for _ in range(blocks)
        ),
        None
        if outputs is None
        else conv(
            rng,
            filters * (2 if activate_last else 1),
            outputs,
            3,
            weight_norm=weight_norm,
            scale=0.4,
            bias_scale=0.5,
        ),
        position,
        activate_last,
    )


def coupling(
    rng: Rng,
    channels: int,
    height: int,
    width: int,
    *,
    components: int = 4,
    floor: float | None = None,
    **network: Any,
) -> Coupling:
    """Draw a coupling with a mixture, or with an affine map if there are no components."""
    family = MixtureLogisticFamily(components, floor) if components else AffineFamily()
    outputs = channels // 2 * (2 + 3 * components)
    return Coupling(conditioner(rng, channels // 2, outputs, height, width, **network), family)


def act_norm(rng: Rng, channels: int, height: int = 1, width: int = 1) -> ActNorm:
    """Draw an ActNorm with one gain per channel, or per activation."""
    shape = (channels, height, width)
    return ActNorm(rng.uniform(0.6, 1.6, shape), 0.3 * rng.standard_normal(shape))


def matrices(rng: Rng, groups: int, size: int) -> np.ndarray:
    """Draw well-conditioned matrices far from symmetric: scaled rotations."""
    rotations = np.linalg.qr(rng.standard_normal((groups, size, size)))[0]
    return rotations * rng.uniform(0.6, 1.6, (groups, size, 1))


def step(
    rng: Rng, channels: int, height: int, width: int, *, groups: int = 2, **network: Any
) -> tuple[Bijector, ...]:
    """Draw a step: ActNorm, 1x1 convolution, coupling, flip."""
    return (
        act_norm(rng, channels, height, width),
        InvertibleConv(matrices(rng, groups, channels // groups)),
        coupling(rng, channels, height, width, **network),
        Flip(),
    )
