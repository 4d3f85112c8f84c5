"""The law that several laws hold for specifications and inputs drawn at random."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

import numpy as np

from conformance.adapter import NotSupported
from conformance.cases.case import Case, stated_tolerance
from conformance.cases.random import Drawn
from conformance.laws.contract import contract
from conformance.laws.guard import is_failure, with_call
from conformance.laws.law import Findings
from conformance.laws.random_trial import RandomTrial
from conformance.laws.round_trips import round_trip_y
from conformance.laws.search import smallest_counterexample
from conformance.laws.trial import Trial, Violation
from conformance.laws.values import forward, inverse, inverse_log_det, log_det
from conformance.numerics.compare import Comparison, Unresolved

EXAMPLES = 24
"""Number of examples for each requested draw."""
CHECKS: dict[str, tuple[Callable[[Trial], Findings], float]] = {
    "contract": (contract, 0.0),
    "forward": (forward, 16.0),
    "log_det": (log_det, 48.0),
    "inverse": (inverse, 16.0),
    "inverse_log_det": (inverse_log_det, 16.0),
    "round_trip_y": (round_trip_y, 32.0),
}
"""The laws that each example is checked by, with their tolerances in ulps."""


class Counterexample(Violation):
    """Raised with the smallest counterexample.

    Attributes:
        drawn: Its specification and input.
        richest: The failing example whose numbers fit fewest mistakes by chance.
        worst: Largest error of all examples in ulps.
        allowed: Tolerance of that error.
    """

    def __init__(
        self,
        message: str,
        drawn: Drawn,
        richest: Drawn,
        worst: float = float("inf"),
        allowed: float = 0.0,
    ) -> None:
        super().__init__(message)
        self.drawn, self.richest, self.worst, self.allowed = drawn, richest, worst, allowed


def random_specs(trial: RandomTrial) -> Findings:
    """No counterexample among drawn specifications; errors as fractions of each tolerance."""
    failing: list[Drawn] = []

    def check(drawn: Drawn) -> str | None:
        error = _error(trial, drawn)
        if error is not None:
            failing[:] = [max(*failing, drawn, key=_richness)] if failing else [drawn]
        return error

    found = smallest_counterexample(
        trial.case.make,
        check,
        examples=EXAMPLES * trial.examples,
        seed=trial.seed,
    )
    if found is not None:
        drawn, error = found
        message = f"smallest counterexample found: {error}"
        raise Counterexample(message, drawn, failing[0], trial.worst_ulps, trial.allowed)
    if trial.unsupported and not trial.compared:
        raise NotSupported(trial.unsupported[-1])
    for reason, count in Counter(trial.unsupported).items():
        yield "examples", Unresolved(count, f"not supported: {reason}")
    yield (
        "all examples",
        Comparison(trial.worst, (), trial.worst, 0.0, 1.0, count=trial.compared),
    )


def _richness(drawn: Drawn) -> tuple[bool, int, int]:
    """Return how well an example distinguishes mistakes: by its shape, then its numbers."""
    height, width = drawn.x.shape[2:]
    return 1 < height != width > 1, len(np.unique(drawn.x)), drawn.x.size


def _error(random: RandomTrial, drawn: Drawn) -> str | None:
    """Return the error of the implementation of a specification; None if it has none."""
    case = Case(
        random.case.name,
        lambda rng: drawn.spec,
        lambda rng: drawn.x,
        lambda rng: drawn.x,
        tolerances=random.case.tolerances,
        domain=random.case.domain,
        image=random.case.image,
        margin=random.case.margin,
    )
    trial = Trial(case, random.adapter, random.dtype.name, "typical", random.seed, random.device)
    for name, (check, default) in CHECKS.items():
        if name in random.case.without:
            continue
        stated = stated_tolerance(case, name, random.dtype.name)
        allowed = stated.ulps if stated else default
        try:
            for label, found in check(trial):
                if isinstance(found, Unresolved):
                    continue
                random.compared += found.count
                size = float("inf") if math.isnan(found.ulps) else found.ulps
                if size > allowed:
                    if size > random.worst_ulps:
                        random.worst_ulps, random.allowed = size, allowed
                    return f"{name}, {label}: {found} (allowed {allowed:g})"
                random.worst = max(random.worst, size / max(1.0, allowed))
        except NotSupported as reason:
            random.unsupported.append(str(reason))
            return None
        except Violation as violation:
            random.worst_ulps = float("inf")
            return f"{name}: {violation}"
        except Exception as error:  # an implementation may raise anything
            if not is_failure(error):
                raise
            random.worst_ulps = float("inf")
            return f"{name}: {with_call(error)}"
    return None
