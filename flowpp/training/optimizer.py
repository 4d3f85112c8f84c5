"""Adam in TensorFlow's form."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim.adam import adam

LATE = 1e30
"""A step so late that torch's kernel has nothing left to correct: the step size has it all."""


class Adam(torch.optim.Optimizer):
    """w <- w - lr sqrt(1 - beta2^t) / (1 - beta1^t) * m / (sqrt(v) + epsilon).

    `m` and `v` are moving averages of the gradient and of its square. As in TensorFlow 1, epsilon
    joins the *uncorrected* root of v, whereas `torch.optim.Adam` adds it after the correction:
    in step t TensorFlow's epsilon weighs 1 / sqrt(1 - beta2^t) times as much, 32 times in step 1.
    TensorFlow also keeps both betas, epsilon and the running powers beta^t in float32, whatever
    the weights' dtype; so does this, and recorded float64 steps of the released code come out to
    the last digits.

    Args:
        params: tensors or parameter groups, as for every torch optimizer.
        lr: step size; a schedule writes a new one into `param_groups` before each step.
        betas: decay rates (beta1, beta2) of the two averages, each in [0, 1).
        epsilon: added to sqrt(v).

    Raises:
        ValueError: a setting lies outside its range.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
    ) -> None:
        if not lr >= 0:
            raise ValueError(f"Adam needs a learning rate of at least 0, got {lr}")
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"Adam needs both betas in [0, 1), got {betas}")
        if not epsilon >= 0:
            raise ValueError(f"Adam needs an epsilon of at least 0, got {epsilon}")
        betas = (_float32(betas[0]), _float32(betas[1]))
        defaults = {"lr": lr, "betas": betas, "epsilon": _float32(epsilon), "powers": (1.0, 1.0)}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One update of every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            betas = beta1, beta2 = group["betas"]
            power1, power2 = (_float32(p * b) for p, b in zip(group["powers"], betas, strict=True))
            group["powers"] = (power1, power2)
            params = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            for p in params:
                if not self.state[p]:
                    self.state[p] |= {"m": torch.zeros_like(p), "v": torch.zeros_like(p)}
            late = {p.device: torch.tensor(LATE, device=p.device) for p in params}
            # Torch's fused kernel: one pass through memory, where five operations took five.
            adam(
                params,
                [_laid_out_as(p, p.grad) for p in params if p.grad is not None],
                [self.state[p]["m"] for p in params],
                [self.state[p]["v"] for p in params],
                [],
                [late[p.device] for p in params],
                fused=True,
                amsgrad=False,
                maximize=False,
                weight_decay=0.0,
                beta1=beta1,
                beta2=beta2,
                lr=group["lr"] * math.sqrt(1 - power2) / (1 - power1),
                eps=group["epsilon"],
            )
        return loss


def _laid_out_as(p: Tensor, grad: Tensor) -> Tensor:
    """The kernel walks through memory and looks at no strides: they must be the same."""
    return grad if grad.stride() == p.stride() else torch.empty_like(p).copy_(grad)


def _float32(value: float) -> float:
    return float(np.float32(value))
