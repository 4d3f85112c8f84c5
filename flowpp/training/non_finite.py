"""A loss or gradient that is infinite or NaN: where it began, and what is kept of it."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from flowpp.model import FlowPlusPlus
from flowpp.runs.checkpoint import Checkpoint

KEPT = 3
"""So many skipped steps of a run are kept for inspection, the first ones: each is a checkpoint."""


class NonFiniteError(RuntimeError):
    """The loss or its gradient was infinite or NaN, too many steps in a row."""


def keep(folder: Path, checkpoint: Checkpoint, x: Tensor, noise: Tensor) -> Path | None:
    """Write the batch of a skipped step, with the state before it; None if enough are kept.

    Args:
        folder: where to; it is made if need be.
        checkpoint: the state in which the step began.
        x: its images.
        noise: its noise.
    """
    folder.mkdir(exist_ok=True)
    if len(list(folder.glob("step-*.safetensors"))) >= KEPT:
        return None
    path = folder / f"step-{checkpoint.step:08d}.safetensors"
    batch = {"batch/x": x, "batch/noise": noise}
    replace(checkpoint, state={**checkpoint.state, **batch}).save(path)
    return path


def error(
    what: str, in_a_row: int, model: FlowPlusPlus, x: Tensor, noise: Tensor, folder: Path
) -> NonFiniteError:
    """Why the run stops, with the first layer that is to blame and what to do about it."""
    return NonFiniteError(
        f"{what}, as in {in_a_row} steps in a row: {culprit(model, x, noise)}; batches and states "
        f"are kept in {folder}; try a lower training.learning_rate"
    )


def weight(model: nn.Module) -> str | None:
    """The name of the first weight or constant that is not finite, if there is one."""
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not _finite(tensor):
            return name
    return None


def culprit(model: FlowPlusPlus, x: Tensor, noise: Tensor) -> str:
    """The first layer that is not finite on this batch, in words.

    Weights are looked at first, then the forward pass in the order of computation, then the
    backward pass in its own. The gradients that this leaves behind are removed.
    """
    name = weight(model)
    if name is not None:
        return f"the weight {name} is not finite"
    found: dict[str, str] = {}
    with ExitStack() as hooks:
        for layer, module in model.named_modules():
            hooks.callback(module.register_forward_hook(_watch(layer or "model", found)).remove)
        total = model.elbo(x, noise).total
        if "forward" in found:
            return found["forward"]
        if not _finite(total):
            return "all layers are finite, but their sum is not"
        (-total.mean()).backward()
    for parameter, p in model.named_parameters():
        if p.grad is not None and not _finite(p.grad):
            found.setdefault("backward", f"the gradient of {parameter} is not finite")
    model.zero_grad()
    return found.get("backward", "the step is finite when it is repeated")


def _watch(name: str, found: dict[str, str]) -> Any:
    """A forward hook that notes the first non-finite output, and the first gradient at one.

    Inner modules come before those that contain them, so that the name is the innermost.
    """

    def hook(module: nn.Module, _inputs: Any, outputs: Any) -> None:
        layer = f"{name} ({type(module).__name__})"
        for output in outputs if isinstance(outputs, tuple) else (outputs,):
            if not isinstance(output, Tensor) or not output.is_floating_point():
                continue
            if not _finite(output):
                found.setdefault("forward", f"the output of {layer} is the first not finite")
            if output.requires_grad:
                output.register_hook(lambda gradient: note_gradient(layer, gradient))

    def note_gradient(layer: str, gradient: Tensor) -> None:
        if not _finite(gradient):
            found.setdefault(
                "backward", f"the gradient at the output of {layer} is the first not finite"
            )

    return hook


def _finite(tensor: Tensor) -> bool:
    return bool(torch.isfinite(tensor).all())
