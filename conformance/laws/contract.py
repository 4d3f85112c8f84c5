"""The law of the interface: shapes, dtypes, finite results, unmodified inputs."""

from __future__ import annotations

import numpy as np

from conformance.laws.law import Findings
from conformance.laws.trial import Trial, Violation
from conformance.numerics.compare import Comparison
from conformance.numerics.specs import differences


def contract(trial: Trial) -> Findings:
    """Shapes and dtype as expected, all finite, inputs and specification not written to."""
    for direction, at in (("forward", trial.x), ("inverse", trial.y)):
        x, context = np.array(at, trial.dtype), trial.cast(trial.context)
        given = [("input", x)] + ([] if context is None else [("context", context)])
        before = [array.copy() for _, array in given]
        output, log_det = trial.call(direction, x, context)
        for name, array in ((direction, output), (f"log_det of {direction}", log_det)):
            if array.dtype != trial.dtype:
                raise Violation(f"{name} is {array.dtype}, not {trial.dtype}")
            if not np.isfinite(array).all():
                raise Violation(f"{name} is not finite everywhere")
        for (name, array), copy in zip(given, before, strict=True):
            if not np.array_equal(array, copy):
                raise Violation(f"{direction} has written to its {name}")
        yield f"form of {direction}", Comparison.exact(output.size)
    changed = differences(trial.given_spec, trial.spec)
    if changed:
        raise Violation(f"the specification has been written to: {changed[0]}")
