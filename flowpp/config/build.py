"""Build a model from its settings: dequantizer, flow, couplings and networks."""

from __future__ import annotations

import operator

import torch
from torch import Tensor, nn

from flowpp.augmentation import Augmenter
from flowpp.bijectors import (
    ActNorm,
    Bijector,
    Chain,
    ChannelSplit,
    Checkerboard,
    ColumnStripes,
    Coupling,
    DataLogit,
    FactorOut,
    FirstChannels,
    Flip,
    Inverse,
    InvertibleConv,
    InvertibleConvLU,
    Sigmoid,
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
from flowpp.config import checks
from flowpp.config.image_sizes import check_layouts
from flowpp.config.layout import Stage, only_split, parse_layout
from flowpp.config.settings import (
    Attention,
    ContextConfig,
    FlowConfig,
    Memory,
    ModelConfig,
    Precision,
)
from flowpp.dequantization import (
    Dequantizer,
    TruncatedNormalDequantizer,
    UniformDequantizer,
    VariationalDequantizer,
)
from flowpp.elementwise import AffineFamily, MixtureLogisticFamily
from flowpp.model import FlowPlusPlus
from flowpp.runtime.image_checks import Shape
from flowpp.runtime.precision import Float32

MODEL_SETTINGS = {
    "Config": "config.model",
    "FlowConfig": "ModelConfig(flow=config)",
    "TrainingConfig": "the `model` of the settings",
    "DataConfig": "the `model` of the settings",
    "str": "flowpp.config.presets.get(NAME).model",
    "dict": "flowpp.config.serialization.from_dict(ModelConfig, config)",
}
"""Replacement to suggest for settings of the wrong kind, by name of their class."""
SPLITS = {"columns": ColumnStripes, "checkerboard": Checkerboard, "channels": ChannelSplit}


def build_model(
    config: ModelConfig,
    image_shape: Shape,
    levels: int,
    generator: torch.Generator | None = None,
) -> FlowPlusPlus:
    """Build a model with fresh random weights.

    Args:
        config: model settings.
        image_shape: (channels, height, width) of the images.
        levels: number of values of a channel.
        generator: generator whose seed is used for the weights; None for torch's global generator.

    Raises:
        TypeError: settings that are not a `ModelConfig`, a shape that is not of integers.
        ValueError: a layout that does not fit the image, or settings out of range.
    """
    checks.kind_of("config", config, ModelConfig, MODEL_SETTINGS)
    image_shape = _checked_shape(image_shape)
    check_layouts(config, image_shape)
    if generator is not None:
        kinds = {"int": "torch.Generator().manual_seed(SEED)"}
        checks.kind_of("generator", generator, torch.Generator, kinds)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(generator.initial_seed())
            return build_model(config, image_shape, levels)
    channels, height, width = image_shape
    chain = build_chain(config.flow, (channels + config.augment, height, width), context=None)
    logit: Bijector = DataLogit(levels)
    flow = Chain([FirstChannels(logit, channels) if config.augment else logit, *chain])
    dequantizer = build_dequantizer(config, image_shape, levels)
    augmenter = build_augmenter(config, image_shape, levels) if config.augment else None
    model = FlowPlusPlus(dequantizer, flow, augmenter)
    model.image_shape = image_shape
    return model


def _checked_shape(shape: Shape) -> Shape:
    """Return (channels, height, width) as Python's integers.

    Raises:
        TypeError: not a sequence of integers.
        ValueError: not three of them, one below 1, or a shape with the channels last.
    """
    needed = "image_shape must be (channels, height, width)"
    try:
        sizes = tuple(operator.index(size) for size in shape)
    except TypeError:
        raise TypeError(f"{needed}, got {shape!r}") from None
    if len(sizes) != 3 or min(sizes) < 1:
        one = f": without the batch, use {sizes[1:]}" if len(sizes) == 4 else ""
        raise ValueError(f"{needed}, got {sizes}{one}")
    channels, height, width = sizes
    if width in (1, 3) and channels not in (1, 3) and channels >= 8:
        raise ValueError(f"{needed}, got {sizes}: channels come first, use "
                         f"{(width, channels, height)}")  # fmt: skip
    return channels, height, width


def set_compute(
    model: nn.Module,
    *,
    memory: Memory = "normal",
    precision: Precision = "float32",
    compiled: bool = False,
) -> None:
    """Set how all couplings and networks of a model are computed.

    Args:
        model: a model, bijector or network; changed in place, its weights are not.
        memory: "low" recomputes every coupling in the backward pass instead of storing its
            activations: the peak memory of one coupling, one more forward pass, bit-identical
            gradients.
        precision: "bfloat16" computes the networks in bfloat16, from copies of their float32
            parameters; statistics of layer normalizations are float32. Their outputs are float32
            again, and everything between them (normalizations, 1x1 convolutions, the mixture)
            stays float32. "float32" and "tf32" differ by torch's global switches; see
            `float32_meaning`.
        compiled: compute the networks' blocks by torch.compile in training; elsewhere, as in
            evaluation, they are computed as without it.

    Raises:
        ValueError: another memory or precision.
    """
    checks.one_of("memory", memory, Memory)
    checks.one_of("precision", precision, Precision)
    for module in model.modules():
        if isinstance(module, Coupling):
            module.recompute = memory == "low"
            if isinstance(module.conditioner, Conditioner):
                reads_half = getattr(module.family, "reads_bfloat16", False)
                module.conditioner.half_output = reads_half
        elif isinstance(module, Conditioner):
            module.compute_dtype = compute_dtype(precision)
            module.compiled = compiled


def compute_dtype(precision: Precision) -> torch.dtype | None:
    """Return the half precision of networks, None for float32."""
    return torch.bfloat16 if precision == "bfloat16" else None


def float32_meaning(precision: Precision) -> Float32:
    """Return what float32 means, for `flowpp.runtime.precision.float32_precision`."""
    return "tf32" if precision == "tf32" else "ieee"


def build_dequantizer(config: ModelConfig, image_shape: Shape, levels: int) -> Dequantizer:
    """Build the dequantizer; the variational one is a context network and a flow onto (0, 1).

    Raises:
        ValueError: a layout with more than one kind of split.
    """
    if config.dequantization == "uniform":
        return UniformDequantizer(levels)
    if config.dequantization == "truncated-normal":
        outputs = 2 * image_shape[0]
        network = _build_context_network(config, image_shape, outputs)
        return TruncatedNormalDequantizer(levels, network)
    split, network = _build_split_and_context(config, image_shape)
    chain = build_chain(config.dequantizer, image_shape, context=config.context.filters)
    return VariationalDequantizer(levels, split, network, Chain([*chain, Sigmoid()]))


def build_augmenter(config: ModelConfig, image_shape: Shape, levels: int) -> Augmenter:
    """Build the augmentation: a context network and a conditional flow onto the real line.

    Raises:
        ValueError: a layout with more than one kind of split, or no channels.
    """
    split, network = _build_split_and_context(config, image_shape)
    shape = (config.augment, *image_shape[1:])
    chain = build_chain(config.dequantizer, shape, context=config.context.filters)
    return Augmenter(levels, config.augment, split, network, Chain(chain))


def _build_split_and_context(
    config: ModelConfig, image_shape: Shape
) -> tuple[Bijector, Conditioner]:
    """Build what a conditional flow sees the image by: a split, and the network after it."""
    split: Bijector = SPLITS[only_split(config.dequantizer.layout)]()
    return split, _build_context_network(config, split.output_shape(image_shape))


def _build_context_network(
    config: ModelConfig, shape: Shape, outputs: int | None = None
) -> Conditioner:
    """Build the context network, with the dequantizer's settings of what it has itself not."""
    return build_context_network(
        config.context,
        shape,
        outputs,
        weight_norm=config.dequantizer.weight_norm,
        heads=config.dequantizer.heads,
        dropout=config.dequantizer.dropout,
    )


def build_chain(config: FlowConfig, shape: Shape, context: int | None) -> list[Bijector]:
    """Build the bijectors of a layout, for images of this shape.

    Args:
        config: flow settings; `config.layout` is read from left to right.
        shape: (channels, height, width).
        context: number of context channels, None without context.
    """
    return _build_stages(config, parse_layout(config.layout), shape, context)


def _build_stages(
    config: FlowConfig, stages: tuple[Stage, ...], shape: Shape, context: int | None
) -> list[Bijector]:
    if not stages:
        return []
    stage, rest = stages[0], stages[1:]
    if stage.word == "squeeze":
        squeeze = Squeeze()
        return [squeeze, *_build_stages(config, rest, squeeze.output_shape(shape), context)]
    if stage.word == "factor":
        return [_build_factor_out(config, rest, shape, context)]
    split = SPLITS[stage.word]()
    split_shape = split.output_shape(shape)
    steps = [b for _ in range(stage.count) for b in build_step(config, split_shape, context)]
    return [split, *steps, Inverse(split), *_build_stages(config, rest, shape, context)]


def _build_factor_out(
    config: FlowConfig, rest: tuple[Stage, ...], shape: Shape, context: int | None
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
