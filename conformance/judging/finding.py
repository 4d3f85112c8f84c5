"""The worst error that a law found."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from conformance.numerics.compare import Comparison


@dataclass(frozen=True)
class Finding:
    """The worst error of a law on a case.

    Attributes:
        trial: The trial it occurred on; None before the first.
        label: What was compared.
        comparison: The worst comparison.
        shown: The call or the drawn example it belongs to, if the law states one.
        error: The implementation's exception or violation that ended the trial, if one did.
        law_error: The exception that the law itself raised, if it did.
        compared: Number of values compared.
        not_compared: Number of values that could not be compared, by reason.
        unsupported: Reason for which an input could not be judged, by name of the inputs.
        left_out: Why the law does not apply; empty if it does.
    """

    trial: Any
    label: str = ""
    comparison: Comparison | None = None
    shown: Any = None
    error: BaseException | None = None
    law_error: BaseException | None = None
    compared: int = 0
    not_compared: Counter[str] = field(default_factory=Counter)
    unsupported: dict[str, str] = field(default_factory=dict)
    left_out: str = ""

    @property
    def ulps(self) -> float:
        if self.error is not None:
            return float("inf")
        return self.comparison.ulps if self.comparison is not None else 0.0
