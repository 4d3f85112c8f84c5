"""A sequence of images on one stack of bits: the first ones plain, the others by a model.

The noise of an image is popped from the bits of those before it. A batch needs the bits of all its
images at once, so batches are as large as the stack allows: 1, then more, up to the wanted size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from flowpp.root_finding import RootError

from .images import Coder
from .plain import pop_plain, push_plain
from .stack import CodingError, Stack

PLAIN = 0
"""Batch size that stands for one image coded without the model."""

Progress = Callable[[int], None]


@dataclass(frozen=True, eq=False)
class Coded:
    """Images on a stack.

    Args:
        words: the stack's bits, uint32.
        batches: sizes of the batches in order; `PLAIN` for an image without the model.
        lengths: bits that each batch added.
    """

    words: np.ndarray
    batches: tuple[int, ...]
    lengths: tuple[int, ...]

    @property
    def count(self) -> int:
        """Number of images."""
        return sum(max(1, size) for size in self.batches)

    @property
    def by_model(self) -> np.ndarray:
        """Which images are coded with the model, bool (count,)."""
        sizes = np.array(self.batches)
        return np.repeat(sizes != PLAIN, np.maximum(1, sizes))


def encode_images(
    coder: Coder, images: np.ndarray, batch: int = 16, progress: Progress = lambda count: None
) -> Coded:
    """Encode images `(N, C, H, W)`.

    Args:
        coder: model and precision.
        images: integers 0 ... levels - 1.
        batch: largest number of images computed at once.
        progress: called with the number of images of each batch.
    """
    stack, batches, lengths, begin = Stack(), [], [], 0
    while begin < len(images):
        size = min(batch, len(images) - begin, max(1, stack.bits // _need(coder, images[0])))
        before = stack.bits
        while size > PLAIN:
            trial = stack.copy()
            try:
                coder.encode(
                    trial, torch.from_numpy(images[begin : begin + size].astype(np.int64))
                )
            except (CodingError, RootError):  # too few bits, or the model has no numbers for it
                size //= 2
            else:
                stack = trial
                break
        if size == PLAIN:
            push_plain(stack, images[begin], coder.model.levels)
        batches.append(size)
        lengths.append(stack.bits - before)
        begin += max(1, size)
        progress(max(1, size))
    return Coded(stack.words, tuple(batches), tuple(lengths))


def decode_images(
    coder: Coder, words: np.ndarray, batches: tuple[int, ...], shape: tuple[int, int, int]
) -> Iterator[np.ndarray]:
    """Decode batches of images `(B, C, H, W)`, int64, the last batch first.

    Raises:
        CodingError: bits that `encode_images` did not write with this coder.
    """
    stack = Stack(words)
    for size in reversed(batches):
        if size == PLAIN:
            stack.reserve = 0
            yield pop_plain(stack, shape, coder.model.levels)[None]
        else:
            stack.reserve = Stack.reserve
            yield coder.decode(stack, (size, *shape)).numpy()
    if len(stack.words):
        raise CodingError(f"no bits must be left on the stack, got {stack.bits}")


def _need(coder: Coder, image: np.ndarray) -> int:
    """Return the bits of an image's normal noise, which are popped before any are pushed."""
    entropy = 0.5 * math.log2(2.0 * math.pi * math.e)
    channels = 0 if coder.model.augmenter is None else coder.model.augmenter.channels
    numbers = image.size * (1 + channels / len(image))
    return math.ceil(numbers * (entropy - math.log2(coder.precision.delta) + 3.0))
