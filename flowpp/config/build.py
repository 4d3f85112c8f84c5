"""Build a model from its settings: dequantizer, flow, couplings and networks."""

from __future__ import annotations

import operator

import torch
from torch import nn

from flowpp.augmentation import Augmenter
from flowpp.bijectors import (
    Bijector,
    Chain,
    Coupling,
    DataLogit,
    FirstChannels,
    Sigmoid,
)
from flowpp.conditioner import Conditioner, make_orthogonal
from flowpp.config import checks
from flowpp.config.build_flow import (
    SPLITS,
    Features,
    build_chain,
    build_context_network,
    build_coupling,
)
from flowpp.config.context_spec import ContextSpec
from flowpp.config.image_sizes import check_layouts
from flowpp.config.layout import only_split
from flowpp.config.settings import ContextConfig, Memory, ModelConfig, Precision
from flowpp.context import ContextEncoder, ImageEncoder, LabelEncoder, VectorEncoder
from flowpp.dequantization import (
    Dequantizer,
    TruncatedNormalDequantizer,
    UniformDequantizer,
    VariationalDequantizer,
)
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
__all__ = [
    "build_augmenter",
    "build_chain",
    "build_context_encoder",
    "build_coupling",
    "build_dequantizer",
    "build_model",
    "compute_dtype",
    "float32_meaning",
    "set_compute",
]


def build_model(
    config: ModelConfig,
    image_shape: Shape,
    levels: int,
    generator: torch.Generator | None = None,
    context: ContextSpec | None = None,
) -> FlowPlusPlus:
    """Build a model with fresh random weights.

    Args:
        config: model settings.
        image_shape: (channels, height, width) of the images.
        levels: number of values of a channel.
        generator: generator whose seed is used for the weights; None for torch's global generator.
        context: description of the contexts of a conditional model; it has the weights of an
            encoder of them besides, and wider inputs of the networks that the features enter.

    Raises:
        TypeError: settings that are not a `ModelConfig`, a shape that is not of integers.
        ValueError: a layout or a context that does not fit the image, or settings out of range.
    """
    checks.kind_of("config", config, ModelConfig, MODEL_SETTINGS)
    image_shape = _checked_shape(image_shape)
    check_layouts(config, image_shape)
    if context is not None:
        _check_context(context, image_shape)
    if generator is not None:
        kinds = {"int": "torch.Generator().manual_seed(SEED)"}
        checks.kind_of("generator", generator, torch.Generator, kinds)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(generator.initial_seed())
            return build_model(config, image_shape, levels, context=context)
    channels, height, width = image_shape
    filters = 0 if context is None else config.condition.filters
    features = Features((filters, height, width)) if filters else None
    chain = build_chain(config.flow, (channels + config.augment, height, width), features)
    logit: Bijector = DataLogit(levels)
    flow = Chain([FirstChannels(logit, channels) if config.augment else logit, *chain])
    dequantizer = build_dequantizer(config, image_shape, levels, filters)
    augmenter = build_augmenter(config, image_shape, levels, filters) if config.augment else None
    encoder = None
    if context is not None:
        encoder = build_context_encoder(config, context, image_shape, levels)
    model = FlowPlusPlus(dequantizer, flow, augmenter, encoder)
    if config.orthogonal:
        make_orthogonal(model)
    model.image_shape = image_shape
    model.context_spec = context
    return model


def build_context_encoder(
    config: ModelConfig, context: ContextSpec, image_shape: Shape, levels: int
) -> ContextEncoder:
    """Build the encoder of a conditional model's contexts."""
    filters = config.condition.filters
    if context.kind == "labels":
        return LabelEncoder.create(context.none_label + 1, filters)
    if context.kind == "vectors":
        return VectorEncoder.create(context.shape[0], filters)
    network = build_context_network(
        ContextConfig(filters, config.condition.blocks),
        (context.shape[0], *image_shape[1:]),
        weight_norm=config.flow.weight_norm,
        heads=config.flow.heads,
        dropout=config.flow.dropout,
    )
    return ImageEncoder(levels, network)


def _check_context(context: ContextSpec, image_shape: Shape) -> None:
    """Require a context that fits the images."""
    checks.kind_of("context", context, ContextSpec, {"dict": "ContextSpec.from_dict(context)"})
    if context.kind != "images":
        return
    (height, width), (own_height, own_width) = image_shape[1:], context.shape[1:]
    factor = height // own_height
    if (factor * own_height, factor * own_width) != (height, width):
        raise ValueError(
            f"context images must have the size {height}x{width} of the images divided by a whole "
            f"number, got {own_height}x{own_width}"
        )


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


def build_dequantizer(
    config: ModelConfig, image_shape: Shape, levels: int, features: int = 0
) -> Dequantizer:
    """Build the dequantizer; the variational one is a context network and a flow onto (0, 1).

    `features` is the number of a conditional model's features; so also in `build_augmenter`.

    Raises:
        ValueError: a layout with more than one kind of split.
    """
    if config.dequantization == "uniform":
        return UniformDequantizer(levels)
    if config.dequantization == "truncated-normal":
        outputs = 2 * image_shape[0]
        network = _build_context_network(config, _wider(image_shape, features), outputs)
        return TruncatedNormalDequantizer(levels, network)
    split, network = _build_split_and_context(config, _wider(image_shape, features))
    chain = build_chain(config.dequantizer, image_shape, context=config.context.filters)
    return VariationalDequantizer(levels, split, network, Chain([*chain, Sigmoid()]))


def build_augmenter(
    config: ModelConfig, image_shape: Shape, levels: int, features: int = 0
) -> Augmenter:
    """Build the augmentation: a context network and a conditional flow onto the real line.

    Raises:
        ValueError: a layout with more than one kind of split, or no channels.
    """
    split, network = _build_split_and_context(config, _wider(image_shape, features))
    shape = (config.augment, *image_shape[1:])
    chain = build_chain(config.dequantizer, shape, context=config.context.filters)
    return Augmenter(levels, config.augment, split, network, Chain(chain))


def _wider(shape: Shape, features: int) -> Shape:
    return shape[0] + features, shape[1], shape[2]


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
