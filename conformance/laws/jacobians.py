"""The laws that log-dets equal the determinant of the full Jacobian, by finite differences.

In float64 the differences are those of the implementation itself. In float32 they would measure
rounding instead of the map, so the log-det is compared with the differences of the reference.
"""

from __future__ import annotations

import numpy as np

from conformance.laws.law import Findings
from conformance.laws.trial import Trial, Violation
from conformance.numerics.compare import Unresolved, compare
from conformance.numerics.jacobian import Jacobian

RESOLVED = 1e-8
"""Largest uncertainty of the differences, relative to the log-det, at which it is compared."""
EXAMPLES = "differences do not resolve the log-det of this example"


def jacobian(trial: Trial) -> Findings:
    """log_det of forward = slogdet of the full Jacobian dy/dx."""
    if trial.dtype == np.float64:
        found = trial.forward_jacobian()
    else:
        found = trial.reference_jacobian_at_x
    yield from _compare(trial, "forward", trial.got_forward[1], found)


def inverse_jacobian(trial: Trial) -> Findings:
    """log_det of inverse = slogdet of the full Jacobian dx/dy."""
    if trial.dtype == np.float64:
        found = trial.inverse_jacobian()
        yield from _compare(trial, "inverse", trial.got_inverse[1], found)
    else:
        unit = trial.unit_of_inverse_log_det
        yield from _compare(
            trial, "inverse", -trial.got_inverse[1], trial.reference_jacobian_at_inverse, unit=unit
        )


def reference_jacobian(trial: Trial) -> Findings:
    """The reference's log-dets = slogdet of its Jacobian, and its inverse inverts it."""
    yield from _compare(
        trial, "reference forward", trial.want_forward[1], trial.reference_jacobian_at_x
    )
    x, log_det = trial.want_inverse
    back, _ = trial.reference("forward", x)
    # The reference computes in float64, whatever the dtype under test.
    unit = trial.unit_of_round_trip_y * (np.finfo(np.float64).eps / trial.eps)
    yield "reference round trip of y", compare(back, trial.y, "float64", unit=unit)
    unit = trial.unit_of_inverse_log_det
    yield from _compare(
        trial, "reference inverse", -log_det, trial.reference_jacobian_at_inverse, unit=unit
    )


def _compare(
    trial: Trial, label: str, log_det: np.ndarray, found: Jacobian, unit: np.ndarray | None = None
) -> Findings:
    want, uncertainty = found.log_det()
    resolved = uncertainty <= RESOLVED * np.maximum(1.0, np.abs(np.nan_to_num(want)))
    if not resolved.any() and not np.isfinite(uncertainty).all():
        raise Violation(f"{label}: the differences resolve no example (uncertainty {uncertainty})")
    if not resolved.all():
        yield f"{label} log_det", Unresolved(int((~resolved).sum()), EXAMPLES)
    if not resolved.any():
        return  # finite differences of a regular map, but not precise enough
    kept = None if unit is None else unit[resolved]
    yield f"{label} log_det", compare(log_det[resolved], want[resolved], trial.dtype, unit=kept)
