"""Data-dependent initialization: each layer is scaled on the first batch, in order of use."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from flowpp.model import FlowPlusPlus
from flowpp.runtime.image_tensors import check_finite


@torch.no_grad()
def initialize(module: nn.Module, *inputs: Any) -> Any:
    """Run `module` forward once; each layer with a method `initialize` gets its input.

    A layer is initialized before it is applied, so that later layers receive normalized input.

    Dropout follows the module's mode: in training mode it is active, and later layers are
    initialized from its output. `flowpp.training.loop` initializes in training mode, as the
    released CIFAR code does. The reference's `initialize` never applies dropout; compare with it
    in `eval()` mode or at a rate of 0.

    Args:
        module: a model, network or bijector with fresh weights.
        *inputs: arguments of its forward pass: a first batch, of 64 or more images, and for a
            model their noise, and if it is conditional their contexts.

    Returns:
        What the forward pass returned.

    Raises:
        TypeError, ValueError: as the forward pass.
        ValueError: a model with trained or initialized weights, which would be overwritten; no
            images, or for a model fewer than 2, or noise that is not finite, or equal contexts.

    Source: Salimans and Kingma 2016, section 3; Flow++'s released code.
    """
    models = [found for found in module.modules() if isinstance(found, FlowPlusPlus)]
    _check(models, inputs)

    def set_layer(layer: nn.Module, arguments: tuple[Any, ...]) -> None:
        layer.initialize(arguments[0])  # type: ignore[operator]

    with ExitStack() as hooks:
        for layer in module.modules():
            if hasattr(layer, "initialize"):
                handle = layer.register_forward_pre_hook(set_layer)
                hooks.callback(handle.remove)
        if _is_compiled(module):  # compiled code need not call the hooks
            hooks.enter_context(torch.compiler.set_stance("force_eager"))
        outputs = module(*inputs)
    for model in models:
        model.initialized = True
    return outputs


def _is_compiled(module: nn.Module) -> bool:
    """Return whether torch.compile has been applied to the module or a part of it."""
    return any(
        hasattr(part, "_orig_mod") or getattr(part, "_compiled_call_impl", None) is not None
        for part in module.modules()
    )


def _check(models: list[FlowPlusPlus], inputs: tuple[Any, ...]) -> None:
    """Require a fresh model and a batch that it can be fitted to."""
    if any(model.initialized for model in models):
        raise ValueError(
            "initialize needs a model with fresh weights, got one that was loaded or initialized: "
            "its weights would be overwritten; to do so, set model.initialized = False"
        )
    tensors = [value for value in inputs if isinstance(value, Tensor)]
    needed = 2 if models else 1
    if tensors and tensors[0].ndim and len(tensors[0]) < needed:
        raise ValueError(
            f"initialize needs a batch of at least {needed} images, better 64 or more, got "
            f"{len(tensors[0])}"
        )
    if models and len(tensors) > 1:
        check_finite(tensors[1], "noise")
    if models and len(tensors) > 2 and not (tensors[2] != tensors[2][:1]).any():
        raise ValueError(
            "initialize needs images of different contexts, got the same one for all "
            f"{len(tensors[2])}: their influence could not be scaled"
        )
