"""The law that nothing computed from the parameters outlives them."""

from __future__ import annotations

from conformance.laws.law import Findings
from conformance.laws.trial import LeftOut, Trial
from conformance.numerics.compare import compare


def assignment(trial: Trial) -> Findings:
    """After the parameters have been changed in place, the same results as built from them."""
    if trial.inputs == "tails":
        return
    built, other = trial.build(trial.spec), trial.other_spec
    if other is None:
        raise LeftOut("the case has no other parameters of the same shapes")
    assign = trial.optional("assign", built)
    calls = (("forward", trial.x), ("inverse", trial.y))
    for direction, at in calls:  # fill whatever is computed on first use
        trial.call(direction, trial.cast(at), trial.cast(trial.context), built)
    assign(other)
    fresh = trial.build(other)
    for direction, at in calls:
        got, want = (
            trial.call(direction, trial.cast(at), trial.cast(trial.context), one)
            for one in (built, fresh)
        )
        for name, part, expected in zip(("", " log_det"), got, want, strict=True):
            yield direction + name, compare(part, expected, trial.dtype)
