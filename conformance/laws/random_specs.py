"""Any shape, any parameters, any input: searched by Hypothesis, and shrunk where it fails."""

from __future__ import annotations

from collections.abc import Iterator
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
from .round_trips import round_trip_y
from .values import forward, inverse, inverse_log_det, log_det

EXAMPLES = 10
"""For each draw that is asked for."""
HELD_AGAINST: dict[Any, float] = {
    contract: 0.0,
    forward: 16.0,
    log_det: 48.0,
    inverse: 16.0,
    inverse_log_det: 16.0,
    round_trip_y: 32.0,
}


class Counterexample(Violation):
    """What a search has found, smallest first; `drawn` is the specification and its input."""

    def __init__(self, message: str, drawn: Drawn) -> None:
        super().__init__(message)
        self.drawn = drawn


@dataclass
class RandomTrial:
    """A random case, adapter, dtype and seed: what `random_specs` needs."""

    case: RandomCase
    adapter: type[Adapter]
    dtype: np.dtype
    seed: int
    device: str
    examples: int
    worst: float = 0.0
    judged: int = 0
    unsupported: list[str] = field(default_factory=list)

    def objection(self, drawn: Drawn) -> str | None:
        """What is wrong with the implementation of a specification, if anything is."""
        case = Case(
            self.case.name,
            lambda rng: drawn.spec,
            lambda rng: drawn.x,
            lambda rng: drawn.x,
            tolerances=self.case.tolerances,
        )
        trial = Trial(case, self.adapter, self.dtype.name, "typical", self.seed, self.device)
        for law, default in HELD_AGAINST.items():
            stated = self.case.tolerances.get(law.__name__)
            most = stated.ulps if isinstance(stated, Tolerance) else default
            try:
                for label, comparison in law(trial):
                    self.judged += comparison.count
                    if comparison.ulps > most:
                        return f"{law.__name__}, {label}: {comparison} (allowed {most:g})"
                    self.worst = max(self.worst, comparison.ulps / max(1.0, most))
            except NotSupported as reason:
                self.unsupported.append(str(reason))
                return None
            except Violation as broken:
                return f"{law.__name__}: {broken}"
            except Exception as error:  # an implementation may raise anything at all
                return f"{law.__name__}: {type(error).__name__}: {error}"
        return None


def random_specs(trial: RandomTrial) -> Iterator[tuple[str, Comparison | Unresolved]]:
    """Specifications and inputs that Hypothesis draws; in parts of what each law allows."""
    examples = EXAMPLES * trial.examples
    found = smallest_counterexample(
        trial.case.make, trial.objection, examples=examples, seed=trial.seed
    )
    if found is not None:
        drawn, objection = found
        raise Counterexample(f"smallest counterexample found: {objection}", drawn)
    if trial.unsupported and not trial.judged:
        raise NotSupported(trial.unsupported[-1])
    if trial.unsupported:
        yield "examples", Unresolved(len(trial.unsupported), trial.unsupported[-1])
    yield (
        "of all examples",
        Comparison(trial.worst, (), trial.worst, 0.0, 1.0, count=trial.judged),
    )
