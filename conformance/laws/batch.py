"""Examples do not influence each other."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..adapter import NotSupported
from ..compare import Comparison, compare
from ..trial import Trial


def batch(trial: Trial) -> Iterator[tuple[str, Comparison]]:
    """Each example alone, and the batch in another order, give the same as the batch."""
    if trial.case.fixed_batch:
        raise NotSupported("the case's parameters differ by example")
    everyone = np.arange(len(trial.x))
    orders = [("alone", [i]) for i in everyone] + [("reversed", everyone[::-1])]
    for direction, at, (output, log_det), units in (
        ("forward", trial.x, trial.got_forward, (None, None)),
        (
            "inverse", trial.y, trial.got_inverse,
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
