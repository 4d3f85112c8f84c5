"""A model with the weights of a checkpoint, built only if they are its own.

Settings may come from elsewhere and ask for a model of any size, so the model is first built
without memory, and its tensors are held against those that there are.
"""

from __future__ import annotations

import torch

from flowpp.config import ModelConfig
from flowpp.config.build import Shape, build_model
from flowpp.config.layout import parse_layout
from flowpp.model import FlowPlusPlus
from flowpp.runs.checkpoint import Checkpoint, CheckpointError, check_shapes


def restored_model(
    checkpoint: Checkpoint, config: ModelConfig, image_shape: Shape, levels: int
) -> FlowPlusPlus:
    """The model of these settings in evaluation mode, with averaged weights where there are some.

    Raises:
        CheckpointError: the settings describe another model or none, or a weight is not finite.
    """
    _check_length(checkpoint, config)
    weights = checkpoint.used(average=True)
    try:
        with torch.device("meta"):
            outline = build_model(config, image_shape, levels)
    except (ValueError, TypeError, RuntimeError, ArithmeticError) as error:
        raise CheckpointError(f"the settings describe no model: {error}") from error
    check_shapes(outline.state_dict(), weights)
    model = build_model(config, image_shape, levels)
    checkpoint.restore(model, average=True)
    return model.eval()


def _check_length(checkpoint: Checkpoint, config: ModelConfig) -> None:
    """Every block of every coupling has tensors of its own: there cannot be more blocks."""
    for flow in (config.flow, config.dequantizer):
        couplings = sum(stage.count for stage in parse_layout(flow.layout))
        if flow is config.dequantizer and config.dequantization != "variational":
            continue
        if couplings * max(1, flow.blocks) > len(checkpoint.weights):
            raise CheckpointError(
                f"checkpoint belongs to another model: it has {len(checkpoint.weights)} tensors "
                f"for {couplings} couplings of {flow.blocks} blocks"
            )
    if config.context.blocks > len(checkpoint.weights):
        raise CheckpointError(
            f"checkpoint belongs to another model: it has {len(checkpoint.weights)} tensors for "
            f"a context network of {config.context.blocks} blocks"
        )
