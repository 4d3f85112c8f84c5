"""Learned position embedding."""

from __future__ import annotations

from torch import Tensor

from flowpp.bijectors.checks import owner_name


def add_position(x: Tensor, position: Tensor | None, owner: object) -> Tensor:
    """Add a position embedding of shape `(F, H, W)`, or None for none.

    Raises:
        ValueError: a position of another shape than one example of x.
    """
    if position is None:
        return x
    check_position(x, position, owner)
    return (x + position).to(x.dtype)  # the sum of half precision and float32 is float32


def check_position(x: Tensor, position: Tensor, owner: object) -> None:
    """Raise ValueError unless the position has the shape of one example of x."""
    if position.shape != x.shape[1:]:
        raise ValueError(
            f"{owner_name(owner)} needs a position of shape {tuple(x.shape[1:])}, "
            f"got {tuple(position.shape)}"
        )
