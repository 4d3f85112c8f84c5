"""Cases by laws by dtypes: judging a cell, and going through all of them."""

from __future__ import annotations

import fnmatch
import time
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from conformance.adapter import DTYPES, Adapter, NotSupported
from conformance.cases import CASES, Case, LayerCase, RandomCase, allowed
from conformance.cell import Cell, Status
from conformance.diagnosis.explain import explained
from conformance.laws import LAWS, Law
from conformance.laws.random_specs import RandomTrial
from conformance.numerics.compare import Comparison, Unresolved
from conformance.trials.layer_trial import LayerTrial
from conformance.trials.time_limit import Hanging, limit
from conformance.trials.trial import Inputs, LeftOut, Trial

INPUTS: tuple[Inputs, ...] = ("typical", "tails")
AnyCase = Case | LayerCase | RandomCase
ILL_CONDITIONED = "one rounding moves the truth by more than a sixteenth of itself"

__all__ = ["Cell", "INPUTS", "Judge", "plan", "select"]


@dataclass(frozen=True)
class Finding:
    """The worst of a cell: on which trial, where, and what broke, if it has no size.

    `compared` counts the numbers that were compared, `not_compared` those that could not be.
    """

    trial: Any
    label: str = ""
    comparison: Comparison | None = None
    broken: BaseException | None = None
    compared: int = 0
    not_compared: Counter[str] = field(default_factory=Counter)

    @property
    def ulps(self) -> float:
        if self.broken is not None:
            return float("inf")
        return self.comparison.ulps if self.comparison is not None else 0.0


class Judge:
    """Judges cells for one adapter; recent trials are kept, as laws share their work.

    Args:
        adapter: what is judged.
        seed: of specs and inputs.
        device: handed to the adapter.
        examples: so many draws of spec and inputs for each case, from the seeds that follow.
        timeout: seconds that a cell may take; see `hanging`.
        name: of the adapter, for reproducers.
    """

    def __init__(
        self,
        adapter: type[Adapter],
        *,
        seed: int = 0,
        device: str = "cpu",
        examples: int = 1,
        timeout: float | None = None,
        name: str = "",
    ) -> None:
        self.adapter, self.seed, self.device = adapter, seed, device
        self.examples, self.timeout = examples, timeout
        self.name = name or f"{adapter.__module__}:{adapter.__qualname__}"
        self._trials: OrderedDict[tuple, Trial | LayerTrial | RandomTrial] = OrderedDict()

    def cell(self, case: AnyCase, law: Law, dtype: str) -> Cell:
        """Try a law on all draws and inputs. Whatever the implementation raises fails the cell."""
        start = time.perf_counter()
        tolerance = allowed(case, law, dtype).ulps

        def verdict(status: Status, finding: Finding | None = None, message: str = "") -> Cell:
            seconds = round(time.perf_counter() - start, 4)
            name = (case.name, law.name, dtype)
            counts: dict[str, Any] = {}
            if finding is not None:
                counts["compared"] = finding.compared
                counts["not_compared"] = dict(finding.not_compared)
            if status in ("left out", "unsupported"):
                return Cell(*name, status, message=message, seconds=seconds, **counts)
            return explained(
                Cell(*name, status, allowed=tolerance, message=message, seconds=seconds, **counts),
                finding,
                self,
                law,
            )

        if law.name in case.without:
            return verdict("left out", message=case.without[law.name])
        finding = Finding(None)
        try:
            with limit(self.timeout):
                for trial in self.trials(case, dtype):
                    finding = self._worse(finding, trial, law)
                    if finding.broken is not None:
                        break
        except NotSupported as reason:
            return verdict("unsupported", message=str(reason))
        except LeftOut as reason:
            return verdict("left out", message=str(reason))
        except Hanging as hanging:
            self._trials.clear()  # half-computed
            finding = Finding(None, broken=hanging)
            return verdict("fails", finding, f"no answer within {self.timeout:g} seconds")
        if finding.broken is None and not finding.compared:
            reasons = "; ".join(finding.not_compared) or "the law has made no comparison"
            return verdict("left out", finding, f"nothing could be compared: {reasons}")
        holds = finding.ulps <= tolerance
        return verdict("holds" if holds else "fails", finding)

    def trials(self, case: AnyCase, dtype: str) -> Iterator[Any]:
        """Every draw of a case, on typical inputs and in the tails."""
        if isinstance(case, RandomCase):
            yield self.trial(case, dtype, "typical", self.seed)
            return
        for seed in range(self.seed, self.seed + self.examples):
            for inputs in INPUTS:
                yield self.trial(case, dtype, inputs, seed)

    def trial(self, case: AnyCase, dtype: str, inputs: Inputs = "typical", seed: int = 0) -> Any:
        """One draw, with everything that laws compute from it."""
        key = (case.name, dtype, inputs, seed)
        if key not in self._trials:
            self._trials[key] = self._make(case, dtype, inputs, seed)
            while len(self._trials) > max(8, 2 * self.examples):
                self._trials.popitem(last=False)
        return self._trials[key]

    def _make(
        self, case: AnyCase, dtype: str, inputs: Inputs, seed: int
    ) -> Trial | LayerTrial | RandomTrial:
        if isinstance(case, RandomCase):
            return RandomTrial(
                case, self.adapter, np.dtype(dtype), seed, self.device, self.examples
            )
        kind = Trial if isinstance(case, Case) else LayerTrial
        return kind(case, self.adapter, dtype, inputs, seed, self.device)

    def _worse(self, worst: Finding, trial: Any, law: Law) -> Finding:
        """The worse of what is known and what the law finds on a trial.

        Raises:
            NotSupported, LeftOut: the trial says nothing.
        """
        worst = worst if worst.trial is not None else Finding(trial)
        compared, not_compared = worst.compared, worst.not_compared.copy()
        try:
            for label, found in law.check(trial):
                if isinstance(found, Unresolved):
                    not_compared[found.why] += found.count
                    continue
                compared += found.count
                if found.left_open:
                    not_compared[ILL_CONDITIONED] += found.left_open
                if found.count and (worst.comparison is None or found.ulps > worst.ulps):
                    worst = Finding(trial, label, found)
        except (NotSupported, LeftOut):
            raise
        except (Exception, SystemExit) as error:  # an implementation may raise anything at all
            worst = Finding(trial, broken=error)
        return replace(worst, compared=compared, not_compared=not_compared)


def plan(
    cases: Iterable[str] = ("*",),
    laws: Iterable[str] = ("*",),
    dtypes: Iterable[str] = DTYPES,
    bijectors: Iterable[str] = ("*",),
) -> Iterator[tuple[AnyCase, Law, str]]:
    """What names or patterns (`coupling/*`) select, a case at a time.

    Args:
        cases: names or patterns.
        laws: likewise.
        dtypes: likewise.
        bijectors: class names or patterns, `Coupling` or `coupling`: cases that begin so.

    Raises:
        ValueError: a name or pattern that selects nothing; the message lists the known names.
    """
    chosen_laws = [LAWS[name] for name in select(laws, list(LAWS), "law")]
    begun = list(dict.fromkeys(name.split("/")[0] for name in CASES))
    kinds = select([_snake(name) for name in bijectors], begun, "bijector")
    chosen_cases = [
        CASES[name] for name in select(cases, list(CASES), "case") if name.split("/")[0] in kinds
    ]
    chosen_dtypes = select(dtypes, list(DTYPES), "dtype")
    return (
        (case, law, dtype)
        for case in chosen_cases
        for dtype in chosen_dtypes
        for law in chosen_laws
        if law.applies(case)
    )


def cells_by_name(names: Iterable[Iterable[str]]) -> Iterator[tuple[AnyCase, Law, str]]:
    """A plan from the names of its cells: (case, law, dtype) each."""
    for case, law, dtype in names:
        yield CASES[case], LAWS[law], dtype


def select(patterns: Iterable[str], known: list[str], kind: str) -> list[str]:
    """The known names that match any of the patterns, in the known order.

    Raises:
        ValueError: a pattern that matches none.
    """
    patterns = list(patterns)
    for pattern in patterns:
        if not fnmatch.filter(known, pattern):
            raise ValueError(f"no {kind} {pattern!r}; known are: {', '.join(known)}")
    return [name for name in known if any(fnmatch.fnmatchcase(name, p) for p in patterns)]


def _snake(name: str) -> str:
    """InvertibleConvLU -> invertible_conv_lu; what has no capitals stays."""
    parts = [
        ("_" if i and c.isupper() and not name[i - 1].isupper() else "") + c.lower()
        for i, c in enumerate(name)
    ]
    return "".join(parts)
