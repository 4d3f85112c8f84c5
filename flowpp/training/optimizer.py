"""Choice of the optimizer."""

from __future__ import annotations

import torch
from torch import nn

from flowpp.config import TrainingConfig
from flowpp.training.adam import Adam
from flowpp.training.muon import Muon, block_kernels, input_kernels

__all__ = ["Adam", "make_optimizer"]


def make_optimizer(model: nn.Module, settings: TrainingConfig) -> torch.optim.Optimizer:
    """Return the optimizer of a model's parameters, by name. The only place that chooses it.

    Checkpoints save the state of any torch optimizer with one group of named parameters. Runs
    resume only with the optimizer that wrote them.
    """
    if settings.optimizer == "adam":
        return Adam(model.named_parameters(), settings.learning_rate)
    kernels = block_kernels(model)
    if settings.optimizer == "muon-inputs":
        kernels |= input_kernels(model)
    return Muon(model.named_parameters(), settings.learning_rate, kernels)
