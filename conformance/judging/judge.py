"""Judging one cell: an adapter's implementation of a case, under a law, at a dtype."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from conformance.adapter import Adapter, NotSupported
from conformance.cases import LayerCase, RandomCase, allowed
from conformance.judging.crash_log import NO_ANSWER
from conformance.judging.diagnosis.explain import explain
from conformance.judging.finding import Finding
from conformance.judging.plan import AnyCase
from conformance.judging.time_limit import TimeLimitExceeded, time_limit
from conformance.laws import Law
from conformance.laws.layer_trial import LayerTrial
from conformance.laws.random_trial import RandomTrial
from conformance.laws.trial import Inputs, LeftOut, Trial
from conformance.numerics.compare import Unresolved
from conformance.reports.result import Result, Status

INPUTS: tuple[Inputs, ...] = ("typical", "tails")
ILL_CONDITIONED = "one rounding moves the truth by more than a sixteenth of itself"
MIN_KEPT_TRIALS = 8

Verdict = tuple[Status, str, Finding | None]


class Judge:
    """Judges cells for one adapter. Recent trials are kept, because laws share their work.

    Args:
        adapter: Adapter class under test.
        seed: Seed of specifications and inputs.
        device: Device name passed to the adapter.
        examples: Number of draws of specification and inputs for each case, from consecutive
            seeds.
        timeout: Time limit in seconds for a cell; see `time_limit`.
        name: Name of the adapter, for reproducers.
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
        """Check a law on all draws and inputs. Any exception of the implementation is a failure.

        The time limit applies to the law; a failure's diagnosis has the same limit again.
        """
        start = time.perf_counter()
        tolerance = allowed(case, law, dtype).ulps
        status, message, finding = self._verdict(case, law, dtype, tolerance)
        result = Result(
            case.name,
            law.name,
            dtype,
            status,
            message=message,
            seconds=round(time.perf_counter() - start, 4),
            compared=finding.compared if finding else 0,
            not_compared=dict(finding.not_compared) if finding else {},
        )
        if finding is None or status == "left out":
            return result
        return explain(replace(result, allowed=tolerance), finding, self, law)

    def trials(self, case: AnyCase, dtype: str) -> Iterator[Any]:
        """Yield a trial for every draw of a case, on typical inputs and in the tails."""
        if isinstance(case, RandomCase):
            yield self.trial(case, dtype, "typical", self.seed)
            return
        for seed in range(self.seed, self.seed + self.examples):
            for inputs in INPUTS:
                yield self.trial(case, dtype, inputs, seed)

    def trial(self, case: AnyCase, dtype: str, inputs: Inputs = "typical", seed: int = 0) -> Any:
        """Return the trial of one draw, from the cache if it is a recent one."""
        key = (case.name, dtype, inputs, seed)
        if key not in self._trials:
            self._trials[key] = self._new_trial(case, dtype, inputs, seed)
            while len(self._trials) > max(MIN_KEPT_TRIALS, len(INPUTS) * self.examples):
                self._trials.popitem(last=False)
        return self._trials[key]

    def _new_trial(
        self, case: AnyCase, dtype: str, inputs: Inputs, seed: int
    ) -> Trial | LayerTrial | RandomTrial:
        if isinstance(case, RandomCase):
            return RandomTrial(
                case, self.adapter, np.dtype(dtype), seed, self.device, self.examples
            )
        if isinstance(case, LayerCase):
            return LayerTrial(case, self.adapter, dtype, inputs, seed, self.device)
        return Trial(case, self.adapter, dtype, inputs, seed, self.device)

    def _verdict(self, case: AnyCase, law: Law, dtype: str, tolerance: float) -> Verdict:
        """Return status, message and finding; the finding is None if the law was not checked."""
        if law.name in case.without:
            return "left out", case.without[law.name], None
        finding = Finding(None)
        try:
            with time_limit(self.timeout):
                for trial in self.trials(case, dtype):
                    finding = self._worse(finding, trial, law)
                    if finding.error is not None:
                        break
        except NotSupported as reason:
            return "unsupported", str(reason), None
        except LeftOut as reason:
            return "left out", str(reason), None
        except TimeLimitExceeded as error:
            self._trials.clear()  # their cached values may be incomplete
            return "fails", f"{NO_ANSWER} {self.timeout:g} seconds", Finding(None, error=error)
        if finding.error is None and not finding.compared:
            reasons = "; ".join(finding.not_compared) or "the law has made no comparison"
            return "left out", f"nothing could be compared: {reasons}", finding
        return "holds" if finding.ulps <= tolerance else "fails", "", finding

    def _worse(self, worst: Finding, trial: Any, law: Law) -> Finding:
        """Return the worse of `worst` and what the law finds on a trial.

        Raises:
            NotSupported, LeftOut: The law cannot be checked on the trial.
        """
        worst = worst if worst.trial is not None else Finding(trial)
        compared, not_compared = worst.compared, worst.not_compared.copy()
        try:
            for label, found in law.check(trial):
                if isinstance(found, Unresolved):
                    not_compared[found.reason] += found.count
                    continue
                compared += found.count
                if found.unresolved:
                    not_compared[ILL_CONDITIONED] += found.unresolved
                if found.count and (worst.comparison is None or found.ulps > worst.ulps):
                    worst = Finding(trial, label, found)
        except (NotSupported, LeftOut):
            raise
        except (Exception, SystemExit) as error:  # an implementation may raise anything
            worst = Finding(trial, error=error)
        return replace(worst, compared=compared, not_compared=not_compared)
