"""The distinction between a wrong result and an imprecise one.

A right formula evaluated with rounding errors is off by as many ulps at both dtypes; a wrong
constant, a clamp or a stopping rule is off by as much, so by 2^29 times as many ulps in float64.
An error beyond the tolerance counts as imprecise if it is small and the other dtype agrees.
"""

from __future__ import annotations

import dataclasses

from conformance.judging.finding import Finding
from conformance.laws.random_specs import Counterexample
from conformance.reports.result import Result

LIMITS = {"float64": 2.0**16, "float32": 2.0**12}
"""Largest error in ulps that may be rounding: 1.5e-11 and 5e-4, relative to the unit."""
UNDOUBTED = 2.0**8
"""The same where the other dtype cannot be judged."""
RATIO = 2.0**8
"""Largest ratio between the errors in ulps of both dtypes."""


def error_in_ulps(finding: Finding) -> float:
    """Return the size of a finding's error: the largest of all examples of a search."""
    if isinstance(finding.error, Counterexample):
        return float(finding.error.worst)
    return finding.ulps


def is_rounding(ulps: float, dtype: str, other: float | None, *, other_holds: bool) -> bool:
    """Return whether an error beyond the tolerance may be rounding.

    Args:
        ulps: The error at `dtype`.
        dtype: Name of the dtype.
        other: The error at the other dtype in its own ulps; None if it is not finite or unknown.
        other_holds: Whether the law holds there.
    """
    if not ulps <= LIMITS[dtype]:
        return False
    if dtype == "float32" and other_holds:
        return True
    if other is None:
        return ulps <= UNDOUBTED
    low, high = sorted(max(1.0, size) for size in (ulps, other))
    return high <= RATIO * low


def accept(result: Result, tolerance: float) -> Result:
    """Return an imprecise result as accepted if its error is at most `tolerance` ulps."""
    small = result.ulps is not None and result.ulps <= tolerance
    if result.status != "imprecise" or not small:
        return result
    return dataclasses.replace(result, accepted=True)
