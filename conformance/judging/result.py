"""The verdict on one case under one law at one dtype, and everything a report says about it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from conformance.reports.json import json_values

Status = Literal["holds", "fails", "expected", "unsupported", "left out"]
STATUSES: tuple[Status, ...] = ("holds", "fails", "expected", "unsupported", "left out")


@dataclass(frozen=True)
class Result:
    """One case under one law at one dtype.

    Attributes:
        case, law, dtype: which.
        status: "expected" where it fails and is listed as a known failure; "unsupported" where the
            implementation says that it does not have this; "left out" where the law has nothing to
            say about the case.
        ulps: the worst error over all inputs and draws; None if it has no size.
        allowed: the tolerance.
        message: where the worst error is, what broke, or why it was left out.
        hint: the probable cause, where the pattern is a known one.
        point: the worst point spelled out: inputs, parameters, got, wanted. Plain values.
        reproducer: what to paste to see it again.
        seconds: how long it took.
        compared: how many numbers were compared, over all inputs and draws.
        not_compared: how many could not be, by reason.
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
    seconds: float = 0.0
    compared: int = 0
    not_compared: dict[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.case} | {self.law} | {self.dtype}"

    @property
    def wrong_bits(self) -> float | None:
        """log2 of the error in ulps: how many of the last bits of the answer are wrong."""
        return wrong_bits(self.ulps, self.dtype)


def wrong_bits(ulps: float | None, dtype: str) -> float | None:
    """log2(ulps), between 0 and all bits of the dtype's significand; None for no size."""
    if ulps is None:
        return None
    most = float(np.finfo(dtype).nmant + 1)
    return most if not math.isfinite(ulps) else min(most, math.log2(max(1.0, ulps)))


def as_json(cells: Iterable[Result]) -> list[dict[str, Any]]:
    """Cells as plain values; numbers that JSON does not know ("inf", "nan") become strings."""
    return [json_values(asdict(cell) | {"wrong_bits": cell.wrong_bits}) for cell in cells]


def from_json(values: dict[str, Any]) -> Result:
    """The cell that `as_json` wrote."""
    known = {name: value for name, value in values.items() if name != "wrong_bits"}
    for name in ("ulps", "allowed"):
        if isinstance(known.get(name), str):
            known[name] = float(known[name])
    return Result(**known)
