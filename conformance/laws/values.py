"""The laws that results equal the reference's."""

from __future__ import annotations

from conformance.laws.law import Findings
from conformance.laws.trial import Trial
from conformance.numerics.compare import compare


def forward(trial: Trial) -> Findings:
    """y = the reference's y."""
    yield "y", compare(trial.got_forward[0], trial.want_forward[0], trial.dtype)


def log_det(trial: Trial) -> Findings:
    """log|det dy/dx| = the reference's."""
    yield "log_det", compare(trial.got_forward[1], trial.want_forward[1], trial.dtype)


def inverse(trial: Trial) -> Findings:
    """x of a given y = the reference's x, in units that account for the conditioning."""
    yield (
        "x",
        compare(
            trial.got_inverse[0], trial.want_inverse[0], trial.dtype, unit=trial.unit_of_inverse
        ),
    )


def inverse_log_det(trial: Trial) -> Findings:
    """log|det dx/dy| = the reference's, in units that account for the conditioning."""
    yield (
        "log_det",
        compare(
            trial.got_inverse[1],
            trial.want_inverse[1],
            trial.dtype,
            unit=trial.unit_of_inverse_log_det,
        ),
    )
