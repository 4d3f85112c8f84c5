"""The gradient that training follows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from conformance.laws.trial import Trial
from conformance.numerics.compare import Comparison, Unresolved
from conformance.numerics.specs import round_to

from .gradients import ExpectedGradient, against, times


def log_prob_gradients(trial: Trial) -> Iterator[tuple[str, Comparison | Unresolved]]:
    """Gradients of log p(x) = log N(y) + log_det, for x and all array fields together."""
    vjp = trial.optional("vjp")
    w = round_to(-trial.want_forward[0], trial.dtype)
    flat, at = w.reshape(len(w), -1), trial.at_x
    got = vjp(
        trial.cast(trial.x),
        trial.cast(trial.context),
        trial.cast(w),
        np.ones(len(w), trial.dtype),
    )
    wanted = ExpectedGradient(
        x=trial.x,
        w=flat,
        v=np.ones(len(w)),
        sign=1.0,
        by_input=times(flat, at.matrix) + at.log_det_gradient,
        size=times(abs(flat), abs(at.matrix)) + abs(at.log_det_gradient),
        doubt=times(abs(flat), at.error) + at.log_det_gradient_error,
        doubt_of_w=np.zeros_like(flat),
    )
    yield from against(trial, got, wanted, directions=1)
