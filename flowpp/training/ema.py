"""Exponential moving average of a model's weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from flowpp.runs.checkpoint import copy_into
from flowpp.training.averages import move_towards
from flowpp.training.one_vector import as_few, is_vector, laid_out


class EMA:
    """a <- decay * a + (1 - decay) * w for every parameter w, starting at its current value.

    Create it after the data-dependent initialization: the average has no bias correction, so it
    would otherwise retain the weights from before the initialization.

    Args:
        model: Model whose parameters are averaged; its buffers are constants and are left out.
        decay: Weight of the former average in each update, in [0, 1).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"EMA decay must lie in [0, 1), got {decay}")
        self.decay = decay
        self._parameters = dict(model.named_parameters())
        weights = [p.detach() for p in self._parameters.values()]
        copies = laid_out(weights) if is_vector(weights) else [w.clone() for w in weights]
        self.average = dict(zip(self._parameters, copies, strict=True))

    @torch.no_grad()
    def update(self, skip_if: Tensor | None = None) -> None:
        """Update the average with the current weights.

        Args:
            skip_if: float32 scalar on the weights' device: if it is 1, the device leaves the
                average unchanged. The result is then rounded in another order.
        """
        averages = list(self.average.values())
        weights: list[Tensor] = list(self._parameters.values())
        if is_vector(averages) and is_vector(weights):
            averages, weights = as_few(averages), as_few(weights)
        move_towards(averages, weights, 1 - self.decay, skip_if)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the averages by parameter name."""
        return dict(self.average)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore the averages.

        Raises:
            CheckpointError: Averages of another model.
        """
        copy_into(self.average, state)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Give the model the averaged weights inside the block, and its own bits afterwards.

        The values are copied, since a CUDA graph of the training step refers to the weights by
        their addresses; the model's own are kept in a copy of the size of its parameters.
        """
        parameters: list[Tensor] = list(self._parameters.values())
        own = [p.detach().clone() for p in parameters]
        try:
            self._overwrite(parameters, [self.average[name] for name in self._parameters])
            yield
        finally:
            self._overwrite(parameters, own)

    @staticmethod
    @torch.no_grad()
    def _overwrite(parameters: list[Tensor], values: list[Tensor]) -> None:
        torch._foreach_copy_(parameters, values)
