"""The law that several laws hold for specifications and inputs drawn by Hypothesis."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from conformance.laws.search import smallest_counterexample
from conformance.laws.trial import Trial, Violation
from conformance.numerics.compare import Comparison, Unresolved

from ..adapter import Adapter, NotSupported
from ..cases.case import Case, Tolerance
from ..cases.random import Drawn, RandomCase
from .contract import contract
from .law import Findings
from .round_trips import round_trip_y
from .values import forward, inverse, inverse_log_det, log_det

EXAMPLES = 10
"""Number of examples for each requested draw."""
CHECKS: dict[Any, float] = {
    contract: 0.0,
    forward: 16.0,
    log_det: 48.0,
    inverse: 16.0,
    inverse_log_det: 16.0,
    round_trip_y: 32.0,
}
"""The laws that each example is checked by, with their tolerances in ulps."""


class Counterexample(Violation):
    """Raised with the smallest counterexample; `drawn` is its specification and input."""

    def __init__(self, message: str, drawn: Drawn) -> None:
        super().__init__(message)
        self.drawn = drawn


@dataclass
class RandomTrial:
    """A random case, adapter, dtype and seed.

    Attributes:
        worst: Worst error so far, as a fraction of the tolerance.
        compared: Number of values compared so far.
        unsupported: Reasons for examples that the implementation does not support.
    """

    case: RandomCase
    adapter: type[Adapter]
    dtype: np.dtype
    seed: int
    device: str
    examples: int
    worst: float = 0.0
    compared: int = 0
    unsupported: list[str] = field(default_factory=list)

    def error(self, drawn: Drawn) -> str | None:
        """Return the error of the implementation of a specification; None if it has none."""
        case = Case(
            self.case.name,
            lambda rng: drawn.spec,
            lambda rng: drawn.x,
            lambda rng: drawn.x,
            tolerances=self.case.tolerances,
        )
        trial = Trial(case, self.adapter, self.dtype.name, "typical", self.seed, self.device)
        for law, default in CHECKS.items():
            stated = self.case.tolerances.get(law.__name__)
            allowed = stated.ulps if isinstance(stated, Tolerance) else default
            try:
                for label, comparison in law(trial):
                    self.compared += comparison.count
                    if comparison.ulps > allowed:
                        return f"{law.__name__}, {label}: {comparison} (allowed {allowed:g})"
                    self.worst = max(self.worst, comparison.ulps / max(1.0, allowed))
            except NotSupported as reason:
                self.unsupported.append(str(reason))
                return None
            except Violation as broken:
                return f"{law.__name__}: {broken}"
            except Exception as error:  # an implementation may raise anything
                return f"{law.__name__}: {type(error).__name__}: {error}"
        return None


def random_specs(trial: RandomTrial) -> Findings:
    """No counterexample among drawn specifications; errors as fractions of each tolerance."""
    found = smallest_counterexample(
        trial.case.make, trial.error, examples=EXAMPLES * trial.examples, seed=trial.seed
    )
    if found is not None:
        drawn, error = found
        raise Counterexample(f"smallest counterexample found: {error}", drawn)
    if trial.unsupported and not trial.compared:
        raise NotSupported(trial.unsupported[-1])
    if trial.unsupported:
        yield "examples", Unresolved(len(trial.unsupported), trial.unsupported[-1])
    yield (
        "all examples",
        Comparison(trial.worst, (), trial.worst, 0.0, 1.0, count=trial.compared),
    )
