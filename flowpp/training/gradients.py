"""Gradients of one batch: accumulated over parts of it, and clipped."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from flowpp.config import TrainingConfig
from flowpp.training import non_finite
from flowpp.training.objective import training_bound
from flowpp.training.one_vector import as_few

_WITH_FORWARD_SYNC = (
    "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters
)
BUFFERS_ARE_CONSTANT: dict[str, Any] = {
    "forward_sync_buffers" if _WITH_FORWARD_SYNC else "broadcast_buffers": False
}
"""Buffers need not be sent in each step; torch 2.13 has renamed the argument."""


def averaging_gradients(model: nn.Module) -> nn.Module:
    """Wrap a model so that its gradients are averaged over the processes, during backward.

    Gradients lie in the buffers that are sent, which saves a copy of each. The graph is not
    declared static: torch, at least up to 2.13, then omits the first step's average unless the
    model's output is a tensor or a container that torch knows, and fails in `no_sync`, which
    accumulation uses. It would save nothing, since every parameter is used in each step.
    """
    return DistributedDataParallel(model, gradient_as_bucket_view=True, **BUFFERS_ARE_CONSTANT)


def accumulate_gradients(
    model: nn.Module, x: Tensor, noise: Tensor, parts: int, *context: Tensor
) -> Tensor:
    """Accumulate the gradients of the mean negative bound over the batch, part by part.

    With several processes the gradients are averaged over them during the last part.

    Args:
        model: Model that returns an `Elbo`, as `FlowPlusPlus` does, or its wrapper for several
            processes.
        x: Images of shape (N, C, H, W).
        noise: Noise of one or several draws an image, see `training_bound`.
        parts: Number of parts of nearly equal size, at most N.
        *context: Of a conditional model, a row for each image.

    Returns:
        The loss in nats per image, a float64 scalar; NaN if a layer refused non-finite weights.
    """
    loss = torch.zeros((), dtype=torch.float64, device=x.device)
    split = [tensor.tensor_split(parts) for tensor in (x, noise, *context)]
    for number, piece in enumerate(zip(*split, strict=True), 1):
        early = isinstance(model, DistributedDataParallel) and number < parts
        with model.no_sync() if early else nullcontext():  # type: ignore[operator]
            try:
                bound = training_bound(model, *piece)
            except ValueError:
                if non_finite.non_finite_weight(model) is None:
                    raise
                return torch.full_like(loss, torch.nan)
            part = -bound.mean() * (len(piece[0]) / len(x))
            part.backward()
        loss += part.detach()
    return loss


def times_convolutions(settings: TrainingConfig, device: torch.device) -> bool:
    """Return whether cuDNN may choose the convolutions of a step by timing its algorithms.

    In half precision alone: in float32 some of them, such as Winograd's, round more coarsely.
    """
    return (
        device.type == "cuda" and settings.precision == "bfloat16" and not settings.deterministic
    )


@torch.no_grad()
def clip_by_global_norm(params: Iterable[Tensor], max_norm: float) -> Tensor:
    """g <- g * max_norm / max(||g||, max_norm), with the norm of all gradients together.

    Returns:
        The norm before clipping, a scalar tensor; 0 without gradients.
    """
    grads = as_few([p.grad for p in params if p.grad is not None])
    norm = torch.nn.utils.get_total_norm(grads)
    if grads:
        torch._foreach_mul_(grads, max_norm / torch.clamp(norm, min=max_norm))
    return norm
