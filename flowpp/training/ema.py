"""Exponential moving average of a model's weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class EMA:
    """a <- decay * a + (1 - decay) * w for every parameter w, starting at the weights as they are.

    Create it after the data-dependent initialization: the average has no bias correction, and
    would otherwise remember the weights from before it.

    Args:
        model: the model whose parameters are averaged. Buffers are constants and are left out.
        decay: weight of the past in one update, in [0, 1).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"EMA needs a decay in [0, 1), got {decay}")
        self.decay = decay
        self._parameters = dict(model.named_parameters())
        self.average = {name: p.detach().clone() for name, p in self._parameters.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights after one optimizer step."""
        torch._foreach_lerp_(
            list(self.average.values()), list(self._parameters.values()), 1 - self.decay
        )

    def state_dict(self) -> dict[str, Tensor]:
        """The averages by parameter name."""
        return dict(self.average)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside the block the model's weights are the averages, afterwards its own again."""
        own = {name: p.data for name, p in self._parameters.items()}
        try:
            for name, p in self._parameters.items():
                p.data = self.average[name]
            yield
        finally:
            for name, p in self._parameters.items():
                p.data = own[name]
