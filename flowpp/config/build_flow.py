"""Build the chains of couplings of a layout, and their networks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from flowpp.bijectors import (
    ActNorm,
    Bijector,
    Chain,
    ChannelSplit,
    Checkerboard,
    ColumnStripes,
    Coupling,
    FactorOut,
    Flip,
    Inverse,
    InvertibleConv,
    InvertibleConvLU,
    LiftedContext,
    Squeeze,
)
from flowpp.bijectors.coupling import ElementwiseFamily
from flowpp.conditioner import (
    BEFORE_GATE,
    POSITION_DEVIATION,
    Block,
    Conditioner,
    Conv2d,
    GatedAttention,
    GatedConv,
    GatedMaxout,
    LayerNorm,
)
from flowpp.config.layout import Stage, parse_layout
from flowpp.config.settings import Attention, ContextConfig, FlowConfig
from flowpp.elementwise import AffineFamily, MixtureLogisticFamily
from flowpp.runtime.image_checks import Shape

SPLITS = {"columns": ColumnStripes, "checkerboard": Checkerboard, "channels": ChannelSplit}


@dataclass(frozen=True)
class Features:
    """Context of a chain's couplings: features of the pixels at the image's resolution.

    Args:
        shape: (channels, height, width) that they have after `lift`.
        lift: Squeezes and splits that the image has passed through.
    """

    shape: Shape
    lift: tuple[Bijector, ...] = ()

    def through(self, permutation: Bijector) -> Features:
        """Return them after a squeeze or split."""
        return Features(permutation.output_shape(self.shape), (*self.lift, permutation))

    def applied(self, steps: list[Bijector]) -> list[Bijector]:
        """Return steps that receive the lifted features."""
        return [LiftedContext(Chain(steps), Chain(self.lift))] if self.lift else steps


def build_chain(
    config: FlowConfig, shape: Shape, context: int | Features | None
) -> list[Bijector]:
    """Build the bijectors of a layout, for images of this shape.

    Args:
        config: flow settings; `config.layout` is read from left to right.
        shape: (channels, height, width).
        context: number of context channels, of a context laid out as the layout's only split
            does; features at the image's resolution; None without context.
    """
    return _build_stages(config, parse_layout(config.layout), shape, context)


def _build_stages(
    config: FlowConfig,
    stages: tuple[Stage, ...],
    shape: Shape,
    context: int | Features | None,
) -> list[Bijector]:
    if not stages:
        return []
    stage, rest = stages[0], stages[1:]
    if stage.word == "squeeze":
        squeeze = Squeeze()
        if isinstance(context, Features):
            context = context.through(Squeeze())
        return [squeeze, *_build_stages(config, rest, squeeze.output_shape(shape), context)]
    if stage.word == "factor":
        return [_build_factor_out(config, rest, shape, context)]
    split = SPLITS[stage.word]()
    split_shape = split.output_shape(shape)
    steps = _build_steps(config, stage, split_shape, context)
    return [split, *steps, Inverse(split), *_build_stages(config, rest, shape, context)]


def _build_steps(
    config: FlowConfig, stage: Stage, shape: Shape, context: int | Features | None
) -> list[Bijector]:
    """Build the steps between a split and its inverse."""
    if isinstance(context, Features):
        if stage.word != "channels":  # this split leaves all numbers where they are
            context = context.through(SPLITS[stage.word]())
        return context.applied(_build_steps(config, stage, shape, context.shape[0]))
    return [b for _ in range(stage.count) for b in build_step(config, shape, context)]


def _build_factor_out(
    config: FlowConfig, rest: tuple[Stage, ...], shape: Shape, context: int | Features | None
) -> FactorOut:
    channels, height, width = shape
    if channels % 2:
        raise ValueError(f"factor needs an even number of channels, got {channels}")
    inner = _build_stages(config, rest, (channels // 2, height, width), context)
    # A nested factor-out undoes its own squeezes; those before it are undone here.
    words = [stage.word for stage in rest]
    own = words[: words.index("factor")] if "factor" in words else words
    return FactorOut(Chain([*inner, *(Inverse(Squeeze()) for _ in range(own.count("squeeze")))]))


def build_step(config: FlowConfig, shape: Shape, context: int | None) -> list[Bijector]:
    """Build normalization, 1x1 convolution (if any), coupling and flip, for channel halves."""
    channels, height, width = shape
    if config.act_norm == "activation":
        steps: list[Bijector] = [ActNorm.create(channels, height, width)]
    else:
        steps = [ActNorm.create(channels)]
    if config.convolution == "halves":
        steps.append(InvertibleConv.create(channels, groups=2, whiten=config.whiten))
    elif config.convolution == "joint":
        steps.append(InvertibleConv.create(channels, groups=1, whiten=config.whiten))
    elif config.convolution == "lu":
        steps.append(InvertibleConvLU.create(channels, groups=1, whiten=config.whiten))
    return [*steps, build_coupling(config, (channels // 2, height, width), context), Flip()]


def build_coupling(config: FlowConfig, half: Shape, context: int | None) -> Coupling:
    """Build a coupling whose halves have this shape."""
    channels, height, width = half
    start = None
    if config.coupling == "affine":
        family: ElementwiseFamily = AffineFamily()
    else:
        mixture = MixtureLogisticFamily(config.components, config.log_scale_floor)
        start = mixture.spread().repeat(channels) if config.spread else None
        family = mixture
    filters = config.filters
    network = Conditioner(
        Conv2d.create(channels, filters, 3, weight_norm=config.weight_norm),
        [_build_block(config, context) for _ in range(config.blocks)],
        Conv2d.create(
            2 * filters if config.activate_last else filters,
            channels * family.parameters_per_scalar,
            3,
            weight_norm=config.weight_norm,
            init_scale=BEFORE_GATE,
            init_mean=start,
        ),
        _position(config.attention, filters, height, width),
        config.activate_last,
    )
    return Coupling(network, family)


def build_context_network(
    config: ContextConfig,
    shape: Shape,
    outputs: int | None = None,
    *,
    weight_norm: bool,
    heads: int,
    dropout: float,
) -> Conditioner:
    """Build the network that computes the context of a conditional flow's couplings.

    With a number of `outputs`, a last convolution computes these of the features.
    """
    channels, height, width = shape
    filters = config.filters
    blocks = [
        Block(
            GatedConv.create(filters, kernel_out=3, dropout=dropout, weight_norm=weight_norm),
            LayerNorm.create(filters) if config.layer_norm else None,
            *_attention(
                config.attention, filters, heads, dropout=dropout, weight_norm=weight_norm
            ),
        )
        for _ in range(config.blocks)
    ]
    proj_in = Conv2d.create(channels, filters, 3, weight_norm=weight_norm)
    proj_out = None
    if outputs is not None:
        proj_out = Conv2d.create(
            filters, outputs, 3, weight_norm=weight_norm, init_scale=BEFORE_GATE
        )
    position = _position(config.attention, filters, height, width)
    return Conditioner(proj_in, blocks, proj_out, position)


def _build_block(config: FlowConfig, context: int | None) -> Block:
    conv = GatedConv.create(
        config.filters, context=context, dropout=config.dropout, weight_norm=config.weight_norm
    )
    attention = _attention(
        config.attention,
        config.filters,
        config.heads,
        dropout=config.dropout,
        weight_norm=config.weight_norm,
    )
    return Block(conv, LayerNorm.create(config.filters), *attention)


def _attention(
    kind: Attention,
    filters: int,
    heads: int,
    *,
    dropout: float,
    weight_norm: bool,
) -> tuple[GatedAttention | GatedMaxout | None, LayerNorm | None]:
    if kind == "none":
        return None, None
    if kind == "maxout":
        layer: GatedAttention | GatedMaxout = GatedMaxout.create(
            filters, dropout=dropout, weight_norm=weight_norm
        )
    else:
        layer = GatedAttention.create(filters, heads, dropout=dropout, weight_norm=weight_norm)
    return layer, LayerNorm.create(filters)


def _position(kind: Attention, filters: int, height: int, width: int) -> Tensor | None:
    if kind == "none":
        return None
    return POSITION_DEVIATION * torch.randn(filters, height, width)
