"""How a model is computed, as against what it computes: memory for time, digits for speed."""

from __future__ import annotations

import torch
from torch import nn

from flowpp.bijectors import Coupling
from flowpp.conditioner import Conditioner
from flowpp.config.settings import Memory, Precision


def configure(
    model: nn.Module, *, memory: Memory = "normal", precision: Precision = "float32"
) -> None:
    """Set both for all couplings and networks inside.

    Args:
        model: a model, bijector or network; changed in place, its weights are not.
        memory: "low" runs every coupling again in the backward pass instead of keeping what is
            inside: the memory of one coupling instead of all, a forward pass more, the same
            gradients bit by bit.
        precision: "bfloat16" computes the networks under torch's autocast. What they give out is
            float32 again, and everything between them (normalizations, 1x1 convolutions, the
            mixture) stays float32.
    """
    for module in model.modules():
        if isinstance(module, Coupling):
            module.recompute = memory == "low"
        elif isinstance(module, Conditioner):
            module.autocast = torch.bfloat16 if precision == "bfloat16" else None
