"""The laws that the two directions are inverse to each other."""

from __future__ import annotations

from conformance.laws.law import Findings
from conformance.laws.trial import Trial
from conformance.numerics.compare import compare


def round_trip_x(trial: Trial) -> Findings:
    """inverse(forward(x)) = x."""
    back, _ = trial.inverse(trial.got_forward[0], trial.context)
    yield "x", compare(back, trial.x, trial.dtype, unit=trial.unit_of_round_trip_x)


def round_trip_y(trial: Trial) -> Findings:
    """forward(inverse(y)) = y."""
    back, _ = trial.forward(trial.got_inverse[0], trial.context)
    yield "y", compare(back, trial.y, trial.dtype, unit=trial.unit_of_round_trip_y)


def opposite(trial: Trial) -> Findings:
    """log_det of the inverse at y = -log_det of forward at inverse(y)."""
    x, log_det = trial.got_inverse
    _, opposite_log_det = trial.forward(x, trial.context)
    yield (
        "log_det",
        compare(log_det, -opposite_log_det, trial.dtype, unit=trial.unit_of_inverse_log_det),
    )
