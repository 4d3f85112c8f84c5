"""Learned position embedding."""

from __future__ import annotations

from reference.bijectors.bijector import Array
from reference.bijectors.checks import owner_name


def add_position(x: Array, position: Array | None, owner: object) -> Array:
    """Add a position embedding of shape (F, H, W), or None for none.

    Raises:
        ValueError: a position of another shape than one example of x.
    """
    if position is None:
        return x
    if position.shape != x.shape[1:]:
        raise ValueError(
            f"{owner_name(owner)} needs a position of shape {x.shape[1:]}, got {position.shape}"
        )
    return x + position
