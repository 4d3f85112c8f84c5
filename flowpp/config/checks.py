"""What settings are held to: ranges, and choices among words. Errors name the setting."""

from __future__ import annotations

import math
from typing import Any, get_args


def at_least(name: str, value: float | None, least: float) -> None:
    """Refuse a number below `least`, or NaN; None, for a setting that may be left out, passes.

    Raises:
        ValueError: with the name, the least value and the one that came.
    """
    if value is not None and not value >= least:
        raise ValueError(f"{name} must be at least {least}, got {value}")


def at_most(name: str, value: float | None, most: float) -> None:
    """Refuse a number above `most`; None passes; raises ValueError as `at_least`."""
    if value is not None and not value <= most:
        raise ValueError(f"{name} must be at most {most}, got {value}")


def within(name: str, value: float, low: float, high: float) -> None:
    """Refuse a number outside [low, high), or NaN; raises ValueError as `at_least`."""
    if not low <= value < high:
        raise ValueError(f"{name} must lie in [{low}, {high}), got {value}")


def seed(name: str, value: int) -> None:
    """Refuse what either of NumPy's and torch's generators does not take as a seed."""
    if not 0 <= value < 2**63:
        raise ValueError(f"{name} must be at least 0 and below 2^63, got {value}")


def finite(name: str, value: float | None) -> None:
    """Refuse infinities and NaN; None passes; raises ValueError as `at_least`."""
    if value is not None and not math.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value}")


def one_of(name: str, value: Any, literal: Any) -> None:
    """Refuse a word that a `Literal` type does not list; raises ValueError with all of them."""
    choices = get_args(literal)
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(str, choices))}, got {value!r}")
