"""Adam as in TensorFlow 1."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim.adam import adam

from flowpp.training.one_vector import as_few, is_vector, laid_out

LATE = 1e30
"""Step number that makes torch's kernel skip its bias correction; ours is multiplied into `lr`."""


class Adam(torch.optim.Optimizer):
    """w <- w - lr sqrt(1 - beta2^t) / (1 - beta1^t) * m / (sqrt(v) + epsilon).

    `m` and `v` are moving averages of the gradient and of its square. As in TensorFlow 1, epsilon
    is added to the *uncorrected* root of v, whereas `torch.optim.Adam` adds it after the
    correction: in step t TensorFlow's epsilon has 1 / sqrt(1 - beta2^t) times the weight, 32 times
    in step 1.

    Numerics: as in TensorFlow, both betas, epsilon and the running powers beta^t are rounded to
    float32, whatever the weights' dtype. This reproduces recorded float64 steps of the released
    code to the last digits.

    Args:
        params: Tensors, named tensors or parameter groups, as for every torch optimizer.
        lr: Step size; the training loop writes a new one into `param_groups` before each step.
        betas: Decay rates (beta1, beta2) of the two averages, each in [0, 1).
        epsilon: Term added to sqrt(v).

    Attributes:
        skip_if: float32 scalar on the parameters' device, or None; while it is 1, `step` changes
            no parameter and no average, as decided by the device. The powers advance nevertheless:
            `param_groups` is the host's.

    Raises:
        ValueError: A setting out of range.
    """

    skip_if: Tensor | None = None
    _rates: Sequence[float | Tensor] = ()

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
    ) -> None:
        if not lr >= 0:
            raise ValueError(f"Adam learning rate must be at least 0, got {lr}")
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"Adam betas must lie in [0, 1), got {betas}")
        if not epsilon >= 0:
            raise ValueError(f"Adam epsilon must be at least 0, got {epsilon}")
        betas = (_float32(betas[0]), _float32(betas[1]))
        defaults = {"lr": lr, "betas": betas, "epsilon": _float32(epsilon), "powers": (1.0, 1.0)}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Update every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.advance()
        self.update()
        return loss

    def advance(self) -> None:
        """Do the host's part of a step: the powers, and the step sizes with their correction.

        On a CUDA device the step size of a group is one permanent tensor, which this writes to
        without waiting: a captured graph of `update` reads it there.
        """
        rates: list[float | Tensor] = []
        for index, group in enumerate(self.param_groups):
            betas = group["betas"]
            power1, power2 = (_float32(p * b) for p, b in zip(group["powers"], betas, strict=True))
            group["powers"] = (power1, power2)
            rate = group["lr"] * math.sqrt(1 - power2) / (1 - power1)
            former = self._rates[index] if index < len(self._rates) else None
            rates.append(permanent(rate, former, group["params"][0].device))
        self._rates = rates

    @torch.no_grad()
    def update(self) -> None:
        """Do the device's part of a step, with the step sizes of the last `advance`."""
        for group, rate in zip(self.param_groups, self._rates, strict=True):
            beta1, beta2 = group["betas"]
            params = self._adam_parameters(group)
            if not params:
                continue
            grads = [with_strides_of(p, p.grad) for p in params if p.grad is not None]
            m, v = self._moments(params, "m"), self._moments(params, "v")
            if all(map(is_vector, (params, grads, m, v))):
                params, grads, m, v = map(as_few, (params, grads, m, v))
            # Filled on the device: copying the number there would wait for it.
            devices = {p.device for p in params}
            late = {device: torch.full((), LATE, device=device) for device in devices}
            # Torch's fused kernel passes through memory once.
            adam(
                params,
                grads,
                m,
                v,
                [],
                [late[p.device] for p in params],
                fused=True,
                found_inf=self.skip_if,
                amsgrad=False,
                maximize=False,
                weight_decay=0.0,
                beta1=beta1,
                beta2=beta2,
                lr=rate,
                eps=group["epsilon"],
            )

    def _adam_parameters(self, group: Mapping[str, Any]) -> list[Tensor]:
        """Return the parameters of a group to update by Adam's rule: those with a gradient."""
        return [p for p in group["params"] if p.grad is not None]

    def _moments(self, params: list[Tensor], key: str) -> list[Tensor]:
        """Return an average of each parameter, made at its first step; a vector for a vector."""
        for p in params:
            if key not in self.state[p]:
                self.state[p][key] = torch.zeros_like(p)
        moments = [self.state[p][key] for p in params]
        if is_vector(params) and not is_vector(moments):
            moments = laid_out(moments)
            for p, moment in zip(params, moments, strict=True):
                self.state[p][key] = moment
        return moments


def permanent(rate: float, former: float | Tensor | None, device: torch.device) -> float | Tensor:
    """Return a step size; on a CUDA device in the tensor of the former one, if there is one."""
    if device.type != "cuda":
        return rate
    tensor = former if isinstance(former, Tensor) else torch.empty((), device=device)
    return tensor.fill_(rate)


def with_strides_of(p: Tensor, grad: Tensor) -> Tensor:
    """Return the gradient in the memory layout of `p`, which the fused kernel assumes."""
    if grad.stride() == p.stride():
        return grad
    # Axes of length 1 may have any stride: those of 1x1 kernels and of cuDNN's gradients differ.
    axes = zip(p.shape, p.stride(), grad.stride(), strict=True)
    if all(length == 1 or own == other for length, own, other in axes):
        return grad.as_strided(p.shape, p.stride())
    return torch.empty_like(p).copy_(grad)


def _float32(value: float) -> float:
    return float(np.float32(value))
