"""Examples do not influence each other."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from conformance.laws.trial import LeftOut, Trial
from conformance.numerics.compare import Comparison, compare


def batch(trial: Trial) -> Iterator[tuple[str, Comparison]]:
    """Each example alone, a batch of any other size, and in another order: the same."""
    if trial.case.fixed_batch:
        raise LeftOut("the case's parameters differ by example")
    everyone = np.arange(len(trial.x))
    shuffled = trial.rng("order").permutation(np.tile(everyone, 3))
    orders = [("alone", everyone[i : i + 1]) for i in everyone]
    orders += [("two of them", everyone[:2]), ("reversed", everyone[::-1])]
    orders += [("three times as many, shuffled", shuffled)]
    for direction, at, (output, log_det), units in (
        ("forward", trial.x, trial.got_forward, (None, None)),
        (
            "inverse",
            trial.y,
            trial.got_inverse,
            (trial.unit_of_inverse, trial.unit_of_inverse_log_det),
        ),
    ):
        for label, chosen in orders:
            context = None if trial.context is None else trial.context[chosen]
            got = getattr(trial, direction)(at[chosen], context)
            for name, mine, whole, unit in zip(
                ("", " log_det"), got, (output, log_det), units, strict=True
            ):
                kept = None if unit is None else unit[chosen]
                yield (
                    f"{direction}{name}, {label}",
                    compare(mine, whole[chosen], trial.dtype, unit=kept),
                )
