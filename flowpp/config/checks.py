"""Range and choice checks for settings; error messages name the setting."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from typing import Any, get_args


def at_least(name: str, value: float | None, low: float) -> None:
    """Require `value` >= `low`; None, an optional setting left out, passes.

    Raises:
        ValueError: A value below `low`, or NaN.
    """
    if value is not None and not value >= low:
        raise ValueError(f"{name} must be at least {low}, got {value}")


def whole(name: str, value: Any, low: int = 1) -> int:
    """Return an integer, NumPy's and a tensor's included, of at least `low`.

    Raises:
        TypeError: Not an integer.
        ValueError: A value below `low`.
    """
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {value!r}") from None
    at_least(name, number, low)
    return number


def at_most(name: str, value: float | None, high: float) -> None:
    """Require `value` <= `high`; None passes; raises ValueError as `at_least`."""
    if value is not None and not value <= high:
        raise ValueError(f"{name} must be at most {high}, got {value}")


def within(name: str, value: float, low: float, high: float) -> None:
    """Require `low` <= `value` < `high`; raises ValueError as `at_least`."""
    if not low <= value < high:
        raise ValueError(f"{name} must lie in [{low}, {high}), got {value}")


def seed(name: str, value: int) -> None:
    """Require a seed that both NumPy's and torch's generators accept."""
    if not 0 <= value < 2**63:
        raise ValueError(f"{name} must be at least 0 and below 2^63, got {value}")


def finite(name: str, value: float | None) -> None:
    """Require a finite number; None passes; raises ValueError as `at_least`."""
    if value is not None and not math.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value}")


def one_of(name: str, value: Any, literal: Any) -> None:
    """Require a choice of a `Literal` type; raises ValueError with all of them."""
    choices = get_args(literal)
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(str, choices))}, got {value!r}")


def kind_of(name: str, value: Any, kind: type, ways: Mapping[str, str]) -> None:
    """Require an instance of a class.

    Args:
        name: Name of the argument.
        value: Its value.
        kind: The class.
        ways: What to use instead, by the name of another class that is likely to be given.

    Raises:
        TypeError: Another class.
    """
    if not isinstance(value, kind):
        given = type(value).__name__
        use = f": use {ways[given]}" if given in ways else ""
        shown = f"{given} {value!r}" if isinstance(value, str) else given
        article = "an" if kind.__name__[0] in "AEIOU" else "a"
        raise TypeError(f"{name} must be {article} {kind.__name__}, got {shown}{use}")
