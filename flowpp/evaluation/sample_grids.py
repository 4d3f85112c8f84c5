"""Grids of samples; those of a conditional model have their contexts beside them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from flowpp.config.context_spec import ContextSpec
from flowpp.evaluation.labelled_grids import Panel
from flowpp.evaluation.sampling import sample
from flowpp.evaluation.spread import evenly_spread
from flowpp.model import FlowPlusPlus
from flowpp.runtime.image_checks import Shape

BESIDE = 2
"""Samples beside each image context and the image that it was made from."""
GROUPED = 4
"""Number of image contexts from which on two lie in a row."""


def training_panel(
    model: FlowPlusPlus,
    count: int,
    generator: torch.Generator,
    images: np.ndarray,
    contexts: np.ndarray | None = None,
) -> Panel:
    """Draw about `count` samples for the grid that is written during training.

    Without contexts they are `count` samples; with labels a row for each class, of the first
    `count` at most; with vectors those of some images; with images a context, two samples and the
    image that the context was made from, twice in a row.

    Args:
        model: The model, which is put into evaluation mode.
        count: Number of tiles, at least 1.
        generator: Source of z.
        images: Held-out images (N, C, H, W).
        contexts: Their contexts, of a conditional model.

    Raises:
        NonFiniteImageError, RootError, ValueError: As `sample`.
    """
    spec, shape = model.context_spec, images.shape[1:]
    if spec is None or contexts is None:
        return Panel(sample(model, shape, count, generator))
    if spec.kind == "labels":
        classes = range(min(count, len(spec.names)))
        rows, columns = label_grid(classes, max(1, count // len(spec.names)))
        drawn = sample(model, shape, len(rows), generator, contexts=rows)
        return Panel(drawn, columns=columns, rows_named=[spec.names[k] for k in classes])
    if spec.kind == "vectors":
        rows = contexts[evenly_spread(count, len(images))]
        return Panel(sample(model, shape, len(rows), generator, contexts=rows))
    chosen = evenly_spread(max(1, count // (BESIDE + 2)), len(images))
    given = contexts[chosen]
    rows = given.repeat(BESIDE, axis=0)
    drawn = sample(model, shape, len(rows), generator, contexts=rows)
    groups = 1 if len(chosen) < GROUPED else 2
    return beside(spec, given, drawn, images[chosen], model.levels, groups=groups)


def label_grid(classes: Sequence[int], columns: int) -> tuple[np.ndarray, int]:
    """Return labels for a grid with a row for each class, and its number of columns."""
    return np.repeat(np.asarray(classes, np.int64), columns), columns


def beside(
    spec: ContextSpec,
    contexts: np.ndarray,
    samples: np.ndarray,
    truth: np.ndarray | None,
    levels: int,
    *,
    groups: int = 1,
) -> Panel:
    """Return rows of an image context, its samples, and the true image if it is known.

    Args:
        spec: Kind of the contexts.
        contexts: (M, K, h, w).
        samples: (M * n, C, H, W), those of a context one after another.
        truth: (M, C, H, W), or None.
        levels: Number of values of a channel.
        groups: Number of contexts in a row.
    """
    shape = (samples.shape[1], samples.shape[2], samples.shape[3])
    each = len(samples) // len(contexts)
    drawn = samples.reshape(len(contexts), each, *shape)
    parts = [context_tiles(spec, contexts, shape, levels)[:, None], drawn]
    names = ["context", *(["sample"] * each)]
    if truth is not None:
        parts.append(truth[:, None])
        names.append("truth")
    tiles = np.concatenate(parts, axis=1).astype(samples.dtype)
    columns = groups * tiles.shape[1]
    return Panel(tiles.reshape(-1, *shape), columns=columns, columns_named=names * groups)


def context_tiles(
    spec: ContextSpec, contexts: np.ndarray, shape: Shape, levels: int
) -> np.ndarray:
    """Return image contexts as images of the model's shape, to be shown beside its samples.

    Lower resolutions are magnified, grey becomes all channels, and the hidden pixels of a mask's
    context are middle grey.

    Args:
        spec: Kind of the contexts.
        contexts: (M, K, h, w).
        shape: (channels, height, width) of the model's images.
        levels: Number of values of a channel.
    """
    channels, height, width = shape
    shown = contexts
    if spec.source == "mask":
        visible = contexts[:, -1:] > 0
        shown = np.where(visible, contexts[:, :-1], (levels - 1) // 2).astype(contexts.dtype)
    shown = shown.repeat(height // shown.shape[2], axis=2).repeat(width // shown.shape[3], axis=3)
    if shown.shape[1] != channels:  # grey in colour, or colour in grey
        shown = shown.mean(1, keepdims=True).astype(contexts.dtype).repeat(channels, axis=1)
    return shown
