"""Gradients of one batch, computed in parts that fit in memory."""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from flowpp.training import non_finite


def backward(model: nn.Module, x: Tensor, noise: Tensor, parts: int) -> float:
    """Gradients of the mean over the batch, one part after another; the loss.

    Nats per image: the scale that `max_grad_norm` refers to. With several processes the gradients
    are averaged over them during the last part. NaN where a layer refuses weights that are not
    finite.

    Args:
        model: returns an `Elbo`, as `FlowPlusPlus` does; or its wrapper for several processes.
        x: images of shape (N, C, H, W).
        noise: of the same shape.
        parts: of nearly equal size, at most N.
    """
    loss = 0.0
    pieces = list(zip(x.tensor_split(parts), noise.tensor_split(parts), strict=True))
    for number, (x_part, noise_part) in enumerate(pieces, 1):
        early = isinstance(model, DistributedDataParallel) and number < parts
        with model.no_sync() if early else nullcontext():  # type: ignore[operator]
            try:
                elbo = model(x_part, noise_part)
            except ValueError:
                if non_finite.weight(model) is None:
                    raise
                return math.nan
            part = -elbo.total.mean() * (len(x_part) / len(x))
            part.backward()
        loss += part.item()
    return loss


@torch.no_grad()
def clip_by_global_norm(params: Iterable[Tensor], max_norm: float) -> Tensor:
    """g <- g * max_norm / max(||g||, max_norm), the norm taken over all gradients together.

    Returns:
        The norm before clipping, a scalar tensor.
    """
    grads = [p.grad for p in params if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(grads)
    torch._foreach_mul_(grads, max_norm / torch.clamp(norm, min=max_norm))
    return norm
