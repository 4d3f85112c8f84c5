"""The worst error that a law found."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from conformance.numerics.compare import Comparison


@dataclass(frozen=True)
class Finding:
    """The worst of a cell: on which trial, where, and what broke, if it has no size.

    `compared` counts the numbers that were compared, `not_compared` those that could not be.
    """

    trial: Any
    label: str = ""
    comparison: Comparison | None = None
    broken: BaseException | None = None
    compared: int = 0
    not_compared: Counter[str] = field(default_factory=Counter)

    @property
    def ulps(self) -> float:
        if self.broken is not None:
            return float("inf")
        return self.comparison.ulps if self.comparison is not None else 0.0
