"""The law of the gradient of log p(x), which training follows."""

from __future__ import annotations

import numpy as np

from conformance.laws.law import Findings
from conformance.laws.trial import Trial
from conformance.numerics.specs import round_to

from .gradients import ExpectedGradient, compare_gradient, gradient, vector_matrix


def log_prob_gradients(trial: Trial) -> Findings:
    """Gradients of log p(x) = log N(y) + log_det, for x and all array fields together."""
    w = round_to(-trial.want_forward[0], trial.dtype)
    flat, at = w.reshape(len(w), -1), trial.reference_jacobian_at_x
    got = gradient(trial, "vjp", trial.x, w, np.ones(len(w)))
    expected = ExpectedGradient(
        x=trial.x,
        w=flat,
        v=np.ones(len(w)),
        sign=1.0,
        for_input=vector_matrix(flat, at.matrix) + at.log_det_gradient,
        size=vector_matrix(abs(flat), abs(at.matrix)) + abs(at.log_det_gradient),
        uncertainty=vector_matrix(abs(flat), at.error) + at.log_det_gradient_error,
        uncertainty_of_w=np.zeros_like(flat),
    )
    yield from compare_gradient(trial, got, expected, directions=1)
