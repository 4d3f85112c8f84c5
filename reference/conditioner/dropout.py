"""Dropout."""

from __future__ import annotations

import numpy as np

from reference.bijectors.bijector import Array
from reference.bijectors.checks import owner_name

Rng = np.random.Generator


def dropout(x: Array, rate: float, rng: Rng | None) -> Array:
    """Apply inverted dropout: x / (1 - rate) with probability 1 - rate, else 0."""
    if rng is None or rate == 0.0:
        return x
    return np.where(rng.random(x.shape) >= rate, x / (1.0 - rate), 0.0)


def check_dropout(owner: object, rate: float) -> None:
    """Raise ValueError unless 0 <= rate < 1."""
    if not 0.0 <= rate < 1.0:
        raise ValueError(f"{owner_name(owner)} needs 0 <= dropout < 1, got {rate}")
