"""Conditional models with random weights, as models, and as checkpoint files."""

from __future__ import annotations

from pathlib import Path

import torch

from flowpp.config import Config, ModelConfig
from flowpp.config.build import build_model
from flowpp.config.context_spec import ContextSpec
from flowpp.model import FlowPlusPlus
from flowpp.runs.checkpoint import Checkpoint
from flowpp.runs.open_model import model_facts

SPECS = {
    None: None,
    "labels": ContextSpec("labels", "folder", ("bird", "cat", "dog")),
    "vectors": ContextSpec("vectors", "csv", ("age", "height"), (2,)),
    "low-resolution": ContextSpec("images", "low-resolution", shape=(1, 4, 4)),
    "mask": ContextSpec("images", "mask", shape=(2, 8, 8)),
}
"""Contexts for grey images of 8x8 pixels."""


def conditional_model(
    config: ModelConfig,
    shape: tuple[int, int, int],
    levels: int,
    context: str | ContextSpec | None,
) -> FlowPlusPlus:
    """Build a model whose density differs from one context to another."""
    spec = SPECS[context] if not isinstance(context, ContextSpec) else context
    generator = torch.Generator().manual_seed(0)
    model = build_model(config, shape, levels, generator, context=spec)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


def saved(path: Path, config: Config, shape: tuple[int, int, int], levels: int, context) -> Path:
    """Write an untrained conditional model with random weights to a checkpoint file."""
    model = conditional_model(config.model, shape, levels, context)
    facts = model_facts(config, shape, levels, model.context_spec)
    Checkpoint(0, model.state_dict(), {}, facts=facts).save(path)
    return path
