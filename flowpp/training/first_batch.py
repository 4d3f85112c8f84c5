"""The batch that the data-dependent initialization scales the layers by."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from flowpp.config import TrainingConfig
from flowpp.data import ImageSet

LEAST = 2
"""Images without which no deviation can be estimated."""


def check_first_batch(settings: TrainingConfig, images: ImageSet) -> None:
    """Require a first batch whose images, and their contexts if they have some, can differ.

    Raises:
        ValueError: Fewer than 2 images, or the same context for all training images.
    """
    if settings.init_batch_size < LEAST:
        raise ValueError(
            f"training.init_batch_size must be at least {LEAST}, better 64 or more, got "
            f"{settings.init_batch_size}"
        )
    contexts = _given(images)
    if contexts is not None and _another(contexts, contexts[0]) is None:
        raise ValueError(
            f"{images.name} must have training images of different contexts, got the same one for "
            f"all {len(contexts):,}: it would say nothing; train without data.context"
        )


def with_different_contexts(rows: Tensor, images: ImageSet) -> Tensor:
    """Return the rows of the first batch; the last is replaced if all have the same context.

    The influence of a context could not be scaled by such a batch. Of rare ones, such as an
    attribute of one image in a hundred, a batch may well have none. Of vectors, each column that
    varies at all varies in the batch, as far as half of its rows suffice: the scale of another
    would be 1, whatever its values are.

    Args:
        rows: Indices of training images.
        images: Data set.
    """
    contexts = _given(images)
    if contexts is None:
        return rows
    if images.context is not None and images.context.kind == "vectors":
        return _with_varied_columns(rows, contexts)
    given = contexts[rows.numpy()]
    if _another(given, given[0]) is None and (other := _another(contexts, given[0])) is not None:
        rows = rows.clone()
        rows[-1] = other
    return rows


def _with_varied_columns(rows: Tensor, vectors: np.ndarray) -> Tensor:
    """Replace rows from the last on, until each column differs from the first row in one."""
    for place in range(len(rows) - 1, (len(rows) - 1) // 2, -1):
        given = vectors[rows.numpy()]
        constant = np.flatnonzero((given == given[0]).all(axis=0))
        differing = (np.flatnonzero(vectors[:, column] != given[0, column]) for column in constant)
        other = next((found[0] for found in differing if len(found)), None)
        if other is None:
            break
        rows = rows.clone()
        rows[place] = int(other)
    return rows


def _given(images: ImageSet) -> np.ndarray | None:
    """Return the contexts of the training images; None for none, or masks, which are drawn."""
    if images.context is None or images.context.source == "mask":
        return None
    return images.context_of("train")


def _another(contexts: np.ndarray, context: np.ndarray) -> int | None:
    """Return the first row with another context."""
    return next((i for i, row in enumerate(contexts) if np.any(row != context)), None)
