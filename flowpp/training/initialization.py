"""Data-dependent initialization: each layer is scaled on the first batch, in order of use."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch
from torch import nn

from flowpp.model import FlowPlusPlus


@torch.no_grad()
def initialize(module: nn.Module, *inputs: Any) -> Any:
    """Run `module` forward once; each layer with a method `initialize` gets its input.

    A layer is initialized before it is applied, so that later layers receive normalized input.

    Dropout follows the module's mode: in training mode it is active, and later layers are
    initialized from its output. `flowpp.training.loop` initializes in training mode, as the
    released CIFAR code does. The reference's `initialize` never applies dropout; compare with it
    in `eval()` mode or at a rate of 0.

    Returns:
        What the forward pass returned.

    Source: Salimans and Kingma 2016, section 3; Flow++'s released code.
    """

    def set_layer(layer: nn.Module, arguments: tuple[Any, ...]) -> None:
        layer.initialize(arguments[0])  # type: ignore[operator]

    with ExitStack() as hooks:
        for layer in module.modules():
            if hasattr(layer, "initialize"):
                handle = layer.register_forward_pre_hook(set_layer)
                hooks.callback(handle.remove)
        outputs = module(*inputs)
    if isinstance(module, FlowPlusPlus):
        module.initialized = True
    return outputs
