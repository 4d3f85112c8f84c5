"""A resumable shuffled sampler, and the noise for each batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flowpp.model import FlowPlusPlus


class NoisyImages:
    """Training images, with noise for the model's dequantizer.

    Args:
        images: Integers of shape (N, C, H, W).
        model: Model whose dequantizer defines the noise, and whose device the batches go to.
        generator: Source of the noise, on the CPU so that it is the same for every device.
    """

    def __init__(
        self, images: np.ndarray, model: FlowPlusPlus, generator: torch.Generator
    ) -> None:
        self.images = torch.from_numpy(images)
        self.model = model
        self.generator = generator

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    def draw(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return images and fresh noise in float32, both of shape (len(indices), C, H, W)."""
        device = next(self.model.parameters()).device
        x = self.images[indices].to(device, torch.float32)
        noise = self.model.dequantizer.draw_noise(
            x.shape, dtype=torch.float32, device=torch.device("cpu"), generator=self.generator
        )
        return x, noise.to(device)


class ShuffledBatches:
    """Endless batches of indices; each epoch is a new permutation.

    Indices left over at the end of an epoch that do not fill a batch are dropped.

    Args:
        count: Number of images.
        batch_size: Number of indices per batch, at most `count`.
        generator: Source of the permutations; it may be used for other draws between batches.
    """

    def __init__(self, count: int, batch_size: int, generator: torch.Generator) -> None:
        self.count = count
        self.batch_size = batch_size
        self.generator = generator
        self._order = torch.empty(0, dtype=torch.long)
        self._begin = count
        self._drawn_from = generator.get_state()

    def __iter__(self) -> Iterator[Tensor]:
        """Return itself."""
        return self

    def __next__(self) -> Tensor:
        """Return the next batch of indices."""
        if self._begin + self.batch_size > self.count:
            self._drawn_from = self.generator.get_state()
            self._order = torch.randperm(self.count, generator=self.generator)
            self._begin = 0
        batch = self._order[self._begin : self._begin + self.batch_size]
        self._begin += self.batch_size
        return batch

    def state_dict(self) -> dict[str, Any]:
        """Return the position in the epoch, and the generator state its permutation came from.

        The permutation itself is not saved: it may have a million entries.
        """
        return {"begin": self._begin, "drawn_from": self._drawn_from.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the position; the caller restores the state of the shared generator.

        Raises:
            ValueError: A negative position.
        """
        self._drawn_from, self._begin = state["drawn_from"].clone(), int(state["begin"])
        if self._begin < 0:
            raise ValueError(f"position in the epoch must be at least 0, got {self._begin}")
        if self._begin < self.count:
            generator = torch.Generator()
            generator.set_state(self._drawn_from)
            self._order = torch.randperm(self.count, generator=generator)
        else:
            self._order = torch.empty(0, dtype=torch.long)
