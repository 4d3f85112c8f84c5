"""The form of the answers: shapes, dtypes, finiteness, and inputs left alone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from conformance.laws.trial import Trial, Violation
from conformance.numerics.compare import Comparison
from conformance.numerics.specs import differences


def contract(trial: Trial) -> Iterator[tuple[str, Comparison]]:
    """Shapes and dtype are kept, all is finite, neither inputs nor the spec are written to."""
    for direction, at, want in (
        ("forward", trial.x, trial.want_forward[0]),
        ("inverse", trial.y, trial.want_inverse[0]),
    ):
        x, context = np.array(at, trial.dtype), trial.cast(trial.context)
        given = [("input", x)] + ([] if context is None else [("context", context)])
        before = [array.copy() for _, array in given]
        output, log_det = trial.answer(direction, x, context)
        if output.shape != want.shape:
            raise Violation(f"{direction} has shape {output.shape}, not {want.shape}")
        for name, array in ((direction, output), (f"log_det of {direction}", log_det)):
            if array.dtype != trial.dtype:
                raise Violation(f"{name} is {array.dtype}, not {trial.dtype}")
            if not np.isfinite(array).all():
                raise Violation(f"{name} is not finite everywhere")
        for (name, handed_in), copy in zip(given, before, strict=True):
            if not np.array_equal(handed_in, copy):
                raise Violation(f"{direction} has written to its {name}")
        yield f"form of {direction}", Comparison(0.0, (), 0.0, 0.0, 0.0, count=output.size)
    changed = differences(trial.given_spec, trial.spec)
    if changed:
        raise Violation(f"the specification has been written to: {changed[0]}")
