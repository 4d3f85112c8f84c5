"""The two directions undo each other, and their log-dets are opposite."""

from __future__ import annotations

from collections.abc import Iterator

from conformance.laws.trial import Trial
from conformance.numerics.compare import Comparison, compare


def round_trip_x(trial: Trial) -> Iterator[tuple[str, Comparison]]:
    """inverse(forward(x)) = x."""
    back, _ = trial.inverse(trial.got_forward[0], trial.context)
    yield "x", compare(back, trial.x, trial.dtype, unit=trial.unit_of_return)


def round_trip_y(trial: Trial) -> Iterator[tuple[str, Comparison]]:
    """forward(inverse(y)) = y."""
    back, _ = trial.forward(trial.got_inverse[0], trial.context)
    yield "y", compare(back, trial.y, trial.dtype, unit=trial.unit_of_image)


def opposite(trial: Trial) -> Iterator[tuple[str, Comparison]]:
    """log_det of the inverse at y = -log_det of forward at inverse(y)."""
    x, log_det = trial.got_inverse
    _, opposite_log_det = trial.forward(x, trial.context)
    yield (
        "log_det",
        compare(log_det, -opposite_log_det, trial.dtype, unit=trial.unit_of_inverse_log_det),
    )
