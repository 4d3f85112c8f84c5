"""Moving averages of lists of tensors, which a CUDA device can leave unchanged by itself."""

from __future__ import annotations

import torch
from torch import Tensor


def move_towards(
    averages: list[Tensor], values: list[Tensor], weight: float, skip_if: Tensor | None
) -> None:
    """a <- a + weight * (w - a) for tensors a and values w of equal strides, in few kernels.

    Args:
        averages: Tensors to change in place.
        values: Their new values.
        weight: Weight of the new values, in [0, 1].
        skip_if: float32 scalar on the tensors' device: if it is 1, the device leaves the averages
            unchanged. The result is then rounded in another order.
    """
    if skip_if is None:
        torch._foreach_lerp_(averages, values, weight)
        return
    # The one kernel of torch that computes a - (-weight) (w - a) for all tensors, unless a flag
    # on the device is set: gradient descent where w is the gradient, with decay -1.
    # (Without `maximize`, which torch's kernels combine with weight decay in different ways.)
    descend(averages, values, -weight, skip_if, weight_decay=-1.0)


def descend(
    tensors: list[Tensor],
    steps: list[Tensor],
    rate: float | Tensor,
    skip_if: Tensor | None,
    *,
    weight_decay: float = 0.0,
) -> None:
    """w <- w - rate * (g + weight_decay * w) for tensors w and steps g of equal strides.

    Args:
        tensors: Tensors to change in place.
        steps: The steps g.
        rate: A number, or a scalar tensor on the device.
        weight_decay: Weight of the tensors themselves.
        skip_if: As for `move_towards`.
    """
    torch._fused_sgd_(
        tensors, steps, [], lr=rate, weight_decay=weight_decay, maximize=False,
        momentum=0.0, dampening=0.0, nesterov=False, is_first_step=False, found_inf=skip_if,
    )  # fmt: skip
