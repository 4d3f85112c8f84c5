"""Dropout."""

from __future__ import annotations

from flowpp.bijectors.checks import owner_name


def check_dropout(owner: object, rate: float) -> None:
    """Raise ValueError unless 0 <= rate < 1."""
    if not 0 <= rate < 1:
        raise ValueError(f"{owner_name(owner)} needs 0 <= dropout < 1, got {rate}")
