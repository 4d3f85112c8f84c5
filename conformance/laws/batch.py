"""The law that examples of a batch do not influence each other."""

from __future__ import annotations

import numpy as np

from conformance.laws.consistency import directions
from conformance.laws.law import Findings
from conformance.laws.trial import LeftOut, Trial
from conformance.numerics.compare import compare


def batch(trial: Trial) -> Findings:
    """The same results for each example alone, in a batch of any size, and in any order."""
    if trial.case.fixed_batch:
        raise LeftOut("the case's parameters differ by example")
    examples = np.arange(len(trial.x))
    shuffled = trial.rng("order").permutation(np.tile(examples, 3))
    orders = [("alone", examples[i : i + 1]) for i in examples]
    orders += [("two of them", examples[:2]), ("reversed", examples[::-1])]
    orders += [("three times as many, shuffled", shuffled)]
    for direction, at, (output, log_det), units in directions(trial):
        for label, chosen in orders:
            context = None if trial.context is None else trial.context[chosen]
            got = getattr(trial, direction)(at[chosen], context)
            for name, part, whole, unit in zip(
                ("", " log_det"), got, (output, log_det), units, strict=True
            ):
                chosen_unit = None if unit is None else unit[chosen]
                yield (
                    f"{direction}{name}, {label}",
                    compare(part, whole[chosen], trial.dtype, unit=chosen_unit),
                )
