"""Infinite or NaN losses and gradients: finding their cause, and keeping the batches."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from flowpp.conditioner.conditioner import uncompiled
from flowpp.model import FlowPlusPlus
from flowpp.runs.checkpoint import Checkpoint
from flowpp.training.objective import training_bound

MAX_KEPT = 3
"""Number of skipped steps kept per run, the first ones; each is as large as a checkpoint."""


class NonFiniteError(RuntimeError):
    """Loss or gradient were infinite or NaN, for too many steps in a row."""


def save_batch(
    folder: Path,
    checkpoint: Checkpoint,
    random_before: Mapping[str, Tensor],
    x: Tensor,
    noise: Tensor,
    *context: Tensor,
) -> Path | None:
    """Write the batch of a skipped step, with the state in which the step began.

    Args:
        folder: Folder to write to; it is created if needed.
        checkpoint: State after the skipped step, which left the weights unchanged.
        random_before: Random states before the step, by their names in the checkpoint.
        x: Images of the batch.
        noise: Noise of the batch.
        *context: Of a conditional model, its context.

    Returns:
        The file, or None if `MAX_KEPT` steps have been kept already.
    """
    folder.mkdir(exist_ok=True)
    if len(list(folder.glob("step-*.safetensors"))) >= MAX_KEPT:
        return None
    path = folder / f"step-{checkpoint.step:08d}.safetensors"
    named = zip(("x", "noise", "context"), (x, noise, *context), strict=False)
    batch = {f"batch/{name}": tensor for name, tensor in named}
    replace(checkpoint, state={**checkpoint.state, **random_before, **batch}).save(path)
    return path


def non_finite_weight(model: nn.Module) -> str | None:
    """Return the name of the first non-finite parameter or buffer, or None."""
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not _is_finite(tensor):
            return name
    return None


def find_cause(
    model: FlowPlusPlus, x: Tensor, noise: Tensor, *context: Tensor, parts: int = 1
) -> str:
    """Describe the first weight or layer that is not finite on this batch.

    Weights are checked first, then the forward pass in the order of computation, then the
    backward pass in its own order. The gradients are removed afterwards.

    Args:
        model: Model, whose gradients are accumulated here.
        x: Images of the batch.
        noise: Noise of the batch.
        *context: Of a conditional model, its context.
        parts: Number of parts that the batch is computed in, one after another. As many as in
            the step have the same dropout as there, and need no more memory.
    """
    name = non_finite_weight(model)
    if name is not None:
        return f"the weight {name} is not finite"
    found: dict[str, str] = {}
    with ExitStack() as hooks, uncompiled(model):
        for layer, module in model.named_modules():
            hooks.callback(module.register_forward_hook(_hook(layer or "model", found)).remove)
        hooks.callback(model.zero_grad)
        for piece in zip(*(t.tensor_split(parts) for t in (x, noise, *context)), strict=True):
            total = training_bound(model.elbo, *piece)
            if "forward" in found:
                return found["forward"]
            if not _is_finite(total):
                return "the outputs of all layers are finite, but the bound is not"
            (-total.mean() * (len(total) / len(x))).backward()
        for parameter, p in model.named_parameters():
            if p.grad is not None and not _is_finite(p.grad):
                found.setdefault("backward", f"the gradient of {parameter} is not finite")
        backward = found.get("backward") or _overflow(model)
    return backward or "the step is finite when it is repeated"


def _overflow(model: nn.Module) -> str | None:
    """Describe finite gradients whose norm overflows: the sum of their squares is too large."""
    given = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    if not given or _is_finite(torch.nn.utils.get_total_norm(list(given.values()))):
        return None
    largest, name = max((gradient.abs().max().item(), name) for name, gradient in given.items())
    return (
        "all gradients are finite, but their norm overflows: the largest number is "
        f"{largest:.1e}, in that of {name}"
    )


def _hook(name: str, found: dict[str, str]) -> Any:
    """Return a forward hook that records the first non-finite output and gradient.

    The hooks of inner modules run first, so that the innermost module is named.
    """

    def hook(module: nn.Module, _inputs: Any, outputs: Any) -> None:
        layer = f"{name} ({type(module).__name__})"
        for output in outputs if isinstance(outputs, tuple) else (outputs,):
            if not isinstance(output, Tensor) or not output.is_floating_point():
                continue
            if not _is_finite(output):
                found.setdefault("forward", f"the first non-finite output is that of {layer}")
            if output.requires_grad:
                output.register_hook(lambda gradient: check_gradient(layer, gradient))

    def check_gradient(layer: str, gradient: Tensor) -> None:
        if not _is_finite(gradient):
            found.setdefault(
                "backward", f"the first non-finite gradient is at the output of {layer}"
            )

    return hook


def _is_finite(tensor: Tensor) -> bool:
    return bool(torch.isfinite(tensor).all())
