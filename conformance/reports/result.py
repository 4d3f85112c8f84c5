"""The result of one case under one law at one dtype."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from conformance.reports.json import json_values

Status = Literal["holds", "imprecise", "fails", "expected", "unsupported", "left out", "error"]
STATUSES: tuple[Status, ...] = (
    "holds",
    "imprecise",
    "fails",
    "expected",
    "unsupported",
    "left out",
    "error",
)
FAILING: tuple[Status, ...] = ("fails", "imprecise")
"""Statuses of results beyond their tolerance."""


@dataclass(frozen=True)
class Result:
    """The result of one cell: a case under a law at a dtype.

    Attributes:
        case, law, dtype: Names of the cell.
        status: "imprecise" for an error beyond the tolerance that rounding may explain;
            "expected" for a failure listed as known; "unsupported" where the implementation lacks
            a feature that the law needs; "left out" where the law does not apply to the case;
            "error" where the law itself, or the reference, raised an exception.
        ulps: Worst error over all inputs and draws; None if it cannot be measured in ulps.
        allowed: Tolerance in ulps.
        message: Where the worst error is, what failed, or why the cell was left out.
        hint: Probable cause, where the failure matches a known pattern.
        point: Inputs and parameters at the worst error, and both values there. Plain values.
        reproducer: Commands that reproduce the failure.
        traceback: Traceback of the exception that the law itself raised.
        seconds: Duration.
        compared: Number of values compared, over all inputs and draws.
        not_compared: Number of values that could not be compared, by reason.
        accepted: Whether an imprecise result is within the tolerance given for the run.
    """

    case: str
    law: str
    dtype: str
    status: Status
    ulps: float | None = None
    allowed: float | None = None
    message: str = ""
    hint: str = ""
    point: dict[str, Any] = field(default_factory=dict)
    reproducer: str = ""
    traceback: str = ""
    seconds: float = 0.0
    compared: int = 0
    not_compared: dict[str, int] = field(default_factory=dict)
    accepted: bool = False

    @property
    def name(self) -> str:
        return f"{self.case} | {self.law} | {self.dtype}"

    @property
    def wrong_bits(self) -> float | None:
        """Number of wrong trailing bits: log2 of the error in ulps."""
        return wrong_bits(self.ulps, self.dtype)


def wrong_bits(ulps: float | None, dtype: str) -> float | None:
    """Return log2(ulps), clipped to 0 and the bits of the dtype's significand; None for None."""
    if ulps is None:
        return None
    most = float(np.finfo(dtype).nmant + 1)
    return most if not math.isfinite(ulps) else min(most, math.log2(max(1.0, ulps)))


def as_json(results: Iterable[Result]) -> list[dict[str, Any]]:
    """Return results as JSON values; see `json_values`."""
    return [json_values(asdict(result) | {"wrong_bits": result.wrong_bits}) for result in results]


def from_json(values: dict[str, Any]) -> Result:
    """Return the result that `as_json` wrote."""
    known = {name: value for name, value in values.items() if name != "wrong_bits"}
    for name in ("ulps", "allowed"):
        if isinstance(known.get(name), str):
            known[name] = float(known[name])
    return Result(**known)
