"""One training step: gradients, clipping, and the update unless a number is not finite.

A CUDA device computes behind the host, which waits for it whenever it reads a number. So the step
leaves loss and gradient norm on the device, and the device itself skips updates that follow a
number that is not finite; `unread.py` says what the host does about it when it reads.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from flowpp.config import TrainingConfig
from flowpp.runtime.determinism import fastest_convolutions
from flowpp.runtime.distributed import ProcessGroup
from flowpp.training.gradients import accumulate_gradients, clip_by_global_norm, times_convolutions
from flowpp.training.one_vector import lay_out_gradients
from flowpp.training.state import TrainingState


class TrainingStep:
    """Gradients of a batch, clipped, and the update of the weights and of their average.

    Args:
        model: The model, or its wrapper for several processes.
        state: Holds the same model, its average and the optimizer.
        settings: Settings of the run.
        group: All processes.

    Attributes:
        halted: float32 scalar on the device, 1 from a loss or gradient norm that is not finite
            until `resume` is called, else 0. While it is 1, updates are skipped.
        skips_on_device: Whether the device skips updates by itself. Otherwise the host reads
            `halted` in each step, which costs nothing on the CPU.
    """

    def __init__(
        self,
        model: nn.Module,
        state: TrainingState,
        settings: TrainingConfig,
        group: ProcessGroup,
    ) -> None:
        self.model, self.state, self.settings, self.group = model, state, settings, group
        self.halted = torch.zeros((), device=state.device)
        self.skips_on_device = state.device.type == "cuda" and hasattr(state.optimizer, "skip_if")

    def __call__(self, x: Tensor, noise: Tensor, *context: Tensor) -> Tensor:
        """Do one step with this process's rows of the batch.

        Args:
            x: Images of shape (N, C, H, W).
            noise: Noise of one or several draws an image.
            *context: Of a conditional model, a row for each image.

        Returns:
            Loss in nats per image, averaged over the processes, and norm of the gradient before
            clipping: float64 of shape (2,), on the device.
        """
        self.advance()
        return self.compute(x, noise, *context)

    def advance(self) -> None:
        """Do the host's part of a step, before the device's."""
        if self.skips_on_device:
            self.state.optimizer.advance()  # type: ignore[attr-defined]

    def compute(self, x: Tensor, noise: Tensor, *context: Tensor) -> Tensor:
        """Do the device's part of a step, which a CUDA graph can repeat; see `__call__`."""
        settings, optimizer = self.settings, self.state.optimizer
        optimizer.zero_grad()
        with fastest_convolutions(enabled=times_convolutions(settings, x.device)):
            loss = accumulate_gradients(self.model, x, noise, settings.accumulate, *context)
        lay_out_gradients(self.state.model.parameters())
        norm = clip_by_global_norm(self.state.model.parameters(), settings.max_grad_norm)
        outcome = torch.stack([self.group.average(loss), norm.to(loss)])
        torch.maximum(self.halted, (~outcome.isfinite()).any(), out=self.halted)
        if self.skips_on_device:
            optimizer.skip_if = self.halted  # type: ignore[attr-defined]
            optimizer.update()  # type: ignore[attr-defined]
            self.state.ema.update(skip_if=self.halted)
        elif not self.halted.item():
            optimizer.step()
            self.state.ema.update()
        return outcome

    def resume(self) -> None:
        """Update again, after the host has dealt with the number that was not finite."""
        self.halted.zero_()


def steps_between_reads(device: torch.device, settings: TrainingConfig) -> int:
    """Return the largest number of steps whose losses are read together.

    Reading costs nothing on the CPU. A CUDA device is waited for when a line is logged.
    """
    return settings.log_every if device.type == "cuda" else 1
