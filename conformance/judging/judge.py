"""Cases by laws by dtypes: judging a cell, and going through all of them."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from conformance.adapter import Adapter, NotSupported
from conformance.cases import Case, RandomCase, allowed
from conformance.judging.diagnosis.explain import explain
from conformance.judging.finding import Finding
from conformance.judging.plan import AnyCase
from conformance.judging.result import Result, Status
from conformance.judging.time_limit import TimeLimitExceeded, limit
from conformance.laws import Law
from conformance.laws.layer_trial import LayerTrial
from conformance.laws.random_specs import RandomTrial
from conformance.laws.trial import Inputs, LeftOut, Trial
from conformance.numerics.compare import Unresolved

INPUTS: tuple[Inputs, ...] = ("typical", "tails")
ILL_CONDITIONED = "one rounding moves the truth by more than a sixteenth of itself"


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

    def judge(self, case: AnyCase, law: Law, dtype: str) -> Result:
        """Try a law on all draws and inputs. Whatever the implementation raises fails the cell."""
        start = time.perf_counter()
        tolerance = allowed(case, law, dtype).ulps

        def verdict(status: Status, finding: Finding | None = None, message: str = "") -> Result:
            seconds = round(time.perf_counter() - start, 4)
            name = (case.name, law.name, dtype)
            counts: dict[str, Any] = {}
            if finding is not None:
                counts["compared"] = finding.compared
                counts["not_compared"] = dict(finding.not_compared)
            if status in ("left out", "unsupported"):
                return Result(*name, status, message=message, seconds=seconds, **counts)
            return explain(
                Result(
                    *name, status, allowed=tolerance, message=message, seconds=seconds, **counts
                ),
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
        except TimeLimitExceeded as hanging:
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
