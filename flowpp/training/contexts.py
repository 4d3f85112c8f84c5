"""Contexts of training images: labels with dropout, vectors, and images."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from torch import Tensor

from flowpp.config.context_spec import ContextSpec
from flowpp.data import ImageSet
from flowpp.data.derived_contexts import draw_masks
from flowpp.runtime.device import send


class TrainingContexts:
    """Contexts of the training images, a row for each.

    Args:
        spec: Kind of the contexts.
        rows: Labels (N,), vectors (N, D) or images (N, K, h, w). The rows of masks are not used:
            each batch has masks of its own.
        levels: Number of values of a channel of the images.
        label_dropout: Probability with which a label is replaced by "none".
    """

    def __init__(
        self, spec: ContextSpec, rows: np.ndarray, levels: int, label_dropout: float = 0.0
    ) -> None:
        self.spec, self.levels = spec, levels
        self.label_dropout = label_dropout if spec.kind == "labels" else 0.0
        self.is_deep = rows.dtype == np.uint16
        self.rows = tensor_over(rows.view(np.int16) if self.is_deep else rows)

    @classmethod
    def of(cls, images: ImageSet, label_dropout: float) -> TrainingContexts | None:
        """Return the contexts of a data set's training images, if it has any."""
        rows = images.context_of("train")
        if images.context is None or rows is None:
            return None
        return cls(images.context, rows, images.levels, label_dropout)

    def draw(
        self, indices: Tensor, x: Tensor, flipped: Tensor | None, generator: torch.Generator
    ) -> Tensor:
        """Return the contexts of a batch on the device of its images.

        Args:
            indices: Indices of the images, on the CPU.
            x: The images (N, C, H, W), flipped, on the model's device.
            flipped: (N, 1, 1, 1), whether each image was flipped; None if none was.
            generator: Source of dropout and masks, on the CPU.
        """
        if self.spec.source == "mask":
            masks = draw_masks(len(x), x.shape[2], x.shape[3], generator)
            visible = send(torch.from_numpy(masks), x.device).to(x.dtype)
            return torch.cat([x * visible, visible * (self.levels - 1)], dim=1)
        rows = self.rows.index_select(0, indices)
        if self.label_dropout:
            dropped = torch.rand(len(rows), generator=generator) < self.label_dropout
            rows = rows.masked_fill(dropped, self.spec.none_label)
        context = send(rows, x.device)
        if self.spec.kind != "images":
            return context
        if self.is_deep:
            context = context.to(torch.int32) & 0xFFFF
        if flipped is not None:
            context = torch.where(flipped, context.flip(-1), context)
        return context.to(x.dtype)


def tensor_over(array: np.ndarray) -> Tensor:
    """Return a tensor that shares the memory of an array, which may be read-only."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of arrays in a file that cannot be written to
        return torch.from_numpy(array)
