"""Images that use a small part of their range of values."""

from __future__ import annotations

import numpy as np

SHARE = 8
"""Images below this fraction of the highest level are unlikely to be as they were meant."""


def value_range_note(images: np.ndarray, levels: int) -> list[str]:
    """Return a line on training images whose values are all small.

    They may have been scaled to [0, 1] before they became integers, or have fewer bits than their
    file; the model would spend its capacity on values that never occur.

    Args:
        images: Integers 0 ... levels - 1.
        levels: Number of values of a channel.
    """
    top = int(images.max())
    if top >= levels // SHARE:
        return []
    return [
        f"training images have no value above {top:,} of {levels - 1:,}: they may have been "
        "scaled to [0, 1] before they became integers, or have fewer bits than their file"
    ]
