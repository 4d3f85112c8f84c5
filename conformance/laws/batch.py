"""The law that examples of a batch do not influence each other."""

from __future__ import annotations

import numpy as np

from conformance.laws.consistency import directions
from conformance.laws.guard import call_at
from conformance.laws.law import Findings
from conformance.laws.trial import LeftOut, Trial
from conformance.numerics.compare import Comparison, compare

MANY, VERY_MANY = 131, 1031
"""Sizes of large batches, and of those with few numbers an example: neither divides by 2 or 3."""
FEW_NUMBERS = 12


def batch(trial: Trial) -> Findings:
    """The same results for each example alone, in a batch of any size, and in any order."""
    if trial.case.fixed_batch:
        raise LeftOut("the case's parameters differ by example")
    examples = np.arange(len(trial.x))
    shuffled = trial.rng("order").permutation(np.tile(examples, 3))
    orders = [("alone", examples[i : i + 1]) for i in examples]
    orders += [("two of them", examples[:2]), ("reversed", examples[::-1])]
    orders += [("three times as many, shuffled", shuffled)]
    largest = VERY_MANY if trial.x[0].size <= FEW_NUMBERS else MANY
    if trial.inputs == "typical":
        orders += [(f"{n} of them", np.resize(examples, n)) for n in sorted({MANY, largest})]
    for direction, at, (output, log_det), units in directions(trial):
        for label, chosen in orders:
            context = None if trial.context is None else trial.context[chosen]
            got = getattr(trial, direction)(at[chosen], context)
            trial.shown = call_at(direction, at[chosen], context)
            for name, part, whole, unit in zip(
                ("", " log_det"), got, (output, log_det), units, strict=True
            ):
                chosen_unit = None if unit is None else unit[chosen]
                yield (
                    f"{direction}{name}, {label}",
                    compare(part, whole[chosen], trial.dtype, unit=chosen_unit),
                )

    # An implementation may refuse empty batches as not supported, after the others are judged.
    for direction, at in (("forward", trial.x), ("inverse", trial.y)):
        yield f"{direction}, empty batch", _empty(trial, direction, at)


def _empty(trial: Trial, direction: str, at: np.ndarray) -> Comparison:
    """Require results without an example for an input without one."""
    context = None if trial.context is None else trial.context[:0]
    getattr(trial, direction)(at[:0], context)
    return Comparison.exact(1)
