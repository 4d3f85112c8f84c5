"""Steps whose loss has not been read yet, and the return to one of them.

If a loss or gradient norm turns out not to be finite, the weights are still those before that
step: the device has skipped all updates since. What the host has advanced meanwhile is restored
from a `Moment`, so that training continues as if every step had been read at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from flowpp.runtime import random_state
from flowpp.training.optimizer_state import group_settings
from flowpp.training.state import TrainingState


@dataclass(frozen=True)
class Moment:
    """All that the host has advanced up to some point between two steps.

    Args:
        step: Number of steps done.
        random: torch's random states, used for dropout.
        batches: Place in the order of the images.
        generators: States of the generators of the order and of the noise.
        optimizer: Settings of the optimizer's groups, such as running powers.
    """

    step: int
    random: dict[str, Tensor]
    batches: tuple[Any, ...]
    generators: list[Tensor]
    optimizer: list[dict[str, Any]]

    @classmethod
    def of(cls, state: TrainingState) -> Moment:
        """Return the present moment; tensors are copied, the weights are left out."""
        return cls(
            state.step,
            random_state.torch_state(state.device),
            state.batches.place(),
            [generator.get_state() for generator in state.generators()],
            [group_settings(group) for group in state.optimizer.param_groups],
        )

    def restore(self, state: TrainingState) -> None:
        """Return to this moment."""
        state.step = self.step
        random_state.set_torch_state(self.random, state.device)
        state.batches.return_to(self.batches)
        for generator, own in zip(state.generators(), self.generators, strict=True):
            generator.set_state(own)
        for group, settings in zip(state.optimizer.param_groups, self.optimizer, strict=True):
            group.update(settings)


@dataclass(frozen=True)
class UnreadStep:
    """A step that has been started.

    Args:
        before: Moment before the step.
        rate: Learning rate.
        outcome: Loss and gradient norm, float64 of shape (2,) on the device.
    """

    before: Moment
    rate: float
    outcome: Tensor

    @property
    def number(self) -> int:
        """Number of the step, counted from 1."""
        return self.before.step + 1
