"""A resumable shuffled sampler, and the noise for each batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flowpp.model import FlowPlusPlus
from flowpp.runtime.device import send
from flowpp.training.contexts import TrainingContexts, tensor_over

SHARE_OF_MEMORY = 0.25
"""Largest share of a GPU's free memory that the training images may take."""


def noise_generator(seed: int, rank: int) -> torch.Generator:
    """Return the generator of the noise of one of several processes."""
    mixed = np.random.SeedSequence([seed, rank]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(mixed[0]))


class NoisyImages:
    """Training images, with noise for the model's dequantizer.

    On a CUDA device the images are kept there, as bytes, if they take at most a quarter of its
    free memory; else each batch is sent to it.

    Args:
        images: uint8 or uint16 of shape (N, C, H, W).
        model: Model whose dequantizer defines the noise, and whose device the batches go to.
        flip: Mirror each image left to right with probability 1/2, anew whenever it is drawn.
        draws: Number of noise draws per image.
        contexts: Contexts of the images, of a conditional model.

    Attributes:
        on_device: Whether the images are on the model's device.
    """

    def __init__(
        self,
        images: np.ndarray,
        model: FlowPlusPlus,
        *,
        flip: bool = False,
        draws: int = 1,
        contexts: TrainingContexts | None = None,
    ) -> None:
        self.contexts = contexts
        self.model = model
        self.flip = flip
        self.draws = draws
        self.device = next(model.parameters()).device
        # torch has few operations for uint16.
        self.is_deep = images.dtype == np.uint16
        self.images = tensor_over(images.view(np.int16) if self.is_deep else images)
        self.on_device = _fits(self.images, self.device)
        if self.on_device:
            self.images = self.images.to(self.device)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    def draw(
        self, indices: Tensor, generator: torch.Generator, draws: int | None = None
    ) -> tuple[Tensor, ...]:
        """Return images (N, C, H, W) and fresh noise for them, in float32; and their contexts.

        The noise has shape (N, C', H, W) as of `FlowPlusPlus.draw_noise`, for several draws an
        image (N, draws, C', H, W). A conditional model's context is the third tensor.

        None of them waits for the device, so that it computes the present step meanwhile.

        Args:
            indices: Indices of the images, on the CPU.
            generator: Source of the noise, on the CPU so that it is the same for every device, and
                of the flips and of what is drawn of contexts after it.
            draws: Number of noise draws per image; None for that of all batches.
        """
        draws = self.draws if draws is None else draws
        noise = self.model.draw_noise(
            (len(indices) * draws, *self.images.shape[1:]),
            dtype=torch.float32,
            device=torch.device("cpu"),
            generator=generator,
        )
        if draws > 1:
            noise = noise.unflatten(0, (len(indices), draws))
        selected = self.images.index_select(0, send(indices, self.images.device))
        x = send(selected, self.device)
        if self.is_deep:
            x = x.to(torch.int32) & 0xFFFF
        flipped: Tensor | None = None
        if self.flip:
            flipped = torch.rand((len(indices), 1, 1, 1), generator=generator) < 0.5
            flipped = send(flipped, self.device)
            x = torch.where(flipped, x.flip(-1), x)
        x, noise = x.to(torch.float32), send(noise, self.device)
        if self.contexts is None:
            return x, noise
        return x, noise, self.contexts.draw(indices, x, flipped, generator)


def _fits(images: Tensor, device: torch.device) -> bool:
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return images.nbytes <= SHARE_OF_MEMORY * free


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

    def place(self) -> tuple[Any, ...]:
        """Return the place reached, for `return_to`. It shares the permutation."""
        return self._order, self._begin, self._drawn_from

    def return_to(self, place: tuple[Any, ...]) -> None:
        """Return to a place; the caller restores the state of the shared generator."""
        self._order, self._begin, self._drawn_from = place

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
        generator = torch.Generator()
        generator.set_state(self._drawn_from)
        self._order = torch.randperm(self.count, generator=generator)
