"""The order in which training images are seen, the place reached in it, and the noise they get."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flowpp.model import FlowPlusPlus


class NoisyImages:
    """Batches of images, with what the model's dequantizer is to make noise of.

    Args:
        images: integers of shape (N, C, H, W).
        model: its device is where the batches go.
        generator: draws the noise, on the CPU: it is the same on every device.
    """

    def __init__(
        self, images: np.ndarray, model: FlowPlusPlus, generator: torch.Generator
    ) -> None:
        self.images = torch.from_numpy(images)
        self.model = model
        self.generator = generator

    def __len__(self) -> int:
        """Number of images."""
        return len(self.images)

    def draw(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Images and fresh noise in float32, both of shape (len(indices), C, H, W)."""
        device = next(self.model.parameters()).device
        x = self.images[indices].to(device, torch.float32)
        noise = self.model.dequantizer.draw_noise(
            x.shape, dtype=torch.float32, device=torch.device("cpu"), generator=self.generator
        )
        return x, noise.to(device)


class ShuffledBatches:
    """Indices of endless epochs, each in a fresh order without replacement.

    What is left at an epoch's end and fills no batch is dropped; the next order mixes it in again.

    Args:
        count: number of images.
        batch_size: number of indices at a time, at most `count`.
        generator: draws the orders; it may be used for other things between batches.
    """

    def __init__(self, count: int, batch_size: int, generator: torch.Generator) -> None:
        self.count = count
        self.batch_size = batch_size
        self.generator = generator
        self._order = torch.empty(0, dtype=torch.long)
        self._begin = count
        self._drawn_from = generator.get_state()

    def __iter__(self) -> Iterator[Tensor]:
        """Itself: there is one place in the order."""
        return self

    def __next__(self) -> Tensor:
        """The next batch of indices."""
        if self._begin + self.batch_size > self.count:
            self._drawn_from = self.generator.get_state()
            self._order = torch.randperm(self.count, generator=self.generator)
            self._begin = 0
        batch = self._order[self._begin : self._begin + self.batch_size]
        self._begin += self.batch_size
        return batch

    def state_dict(self) -> dict[str, Any]:
        """The place in the order. The order itself is drawn again: it may be a million numbers."""
        return {"begin": self._begin, "drawn_from": self._drawn_from.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Return to that place; the shared generator's own state is the caller's to restore.

        Raises:
            ValueError: there is no such place.
        """
        self._drawn_from, self._begin = state["drawn_from"].clone(), int(state["begin"])
        if self._begin < 0:
            raise ValueError(f"a place in the order is at least 0, got {self._begin}")
        if self._begin < self.count:
            generator = torch.Generator()
            generator.set_state(self._drawn_from)
            self._order = torch.randperm(self.count, generator=generator)
        else:
            self._order = torch.empty(0, dtype=torch.long)
