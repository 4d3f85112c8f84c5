"""Choice of some images of many: evenly spread, since neighbours may be alike."""

from __future__ import annotations

import numpy as np


def evenly_spread(count: int, available: int) -> np.ndarray:
    """Return at most `count` of the indices 0 ... available - 1, evenly spaced, in order."""
    chosen = min(count, available)
    return np.arange(chosen) * available // max(1, chosen)


def first_or_spread(count: int, labels: np.ndarray) -> np.ndarray:
    """Return the first `count` indices; spread ones if the first lack some of the labels.

    Images in class folders lie class by class, so that the first ones are of a few classes only.

    Args:
        count: Largest number of indices.
        labels: Label of each image, (N,).
    """
    first = np.arange(min(count, len(labels)))
    if len(np.unique(labels[first])) == len(np.unique(labels)):
        return first
    return evenly_spread(count, len(labels))
