"""Judging one cell: an adapter's implementation of a case, under a law, at a dtype."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from conformance.adapter import DTYPES, Adapter, NotSupported
from conformance.cases import LayerCase, RandomCase, allowed
from conformance.judging import integrity
from conformance.judging.crash_log import NO_ANSWER
from conformance.judging.diagnosis.explain import explain, with_traceback
from conformance.judging.finding import Finding
from conformance.judging.plan import AnyCase
from conformance.judging.precision import LIMITS, error_in_ulps, is_rounding
from conformance.judging.time_limit import TimeLimitExceeded, time_limit
from conformance.laws import Law
from conformance.laws.guard import is_failure
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
        intact: What the implementation must not replace; see `integrity.snapshot`.
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
        intact: integrity.Snapshot | None = None,
    ) -> None:
        self.adapter, self.seed, self.device = adapter, seed, device
        self.examples, self.timeout = examples, timeout
        self._intact = intact or integrity.Snapshot([], [])
        self.name = name or f"{adapter.__module__}:{adapter.__qualname__}"
        self._trials: OrderedDict[tuple, Trial | LayerTrial | RandomTrial] = OrderedDict()

    def judge(self, case: AnyCase, law: Law, dtype: str) -> Result:
        """Check a law on all draws and inputs. Any exception of the implementation is a failure.

        One of the law itself, or of the reference, is an error.

        The time limit applies to the law; a failure's diagnosis, and the other dtype's result
        that tells rounding from a wrong formula, have the same limit again.
        """
        start = time.perf_counter()
        tolerance = allowed(case, law, dtype).ulps
        status, message, finding = self._verdict(case, law, dtype, tolerance)
        if status == "fails" and self._is_rounding(case, law, dtype, finding):
            status = "imprecise"
        changes = integrity.changes(self._intact)
        if changes:
            status, message, finding = "fails", integrity.message(changes), None
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
        if finding is None or status in ("left out", "unsupported"):
            return result
        if status == "error":
            return with_traceback(result, finding, self)
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
        """Return status, message and finding; the finding is None if the law was not checked.

        A failure counts, even if other parts are not supported or cannot be compared.
        """
        if law.name in case.without:
            return "left out", case.without[law.name], None
        finding, called = Finding(None), 0
        try:
            with time_limit(self.timeout):
                for trial in self.trials(case, dtype):
                    finding = self._worse(finding, trial, law)
                    called += getattr(trial, "calls", 1)
                    if finding.error is not None or finding.law_error is not None:
                        break
        except TimeLimitExceeded as error:
            self._trials.clear()  # their cached values may be incomplete
            return "fails", f"{NO_ANSWER} {self.timeout:g} seconds", Finding(None, error=error)
        if not finding.ulps <= tolerance:
            return "fails", "", finding
        if finding.law_error is not None:
            return "error", _own_error(law, finding.law_error), finding
        if finding.unsupported:
            return "unsupported", _not_supported(finding), finding
        if finding.left_out:
            return "left out", finding.left_out, finding
        if not finding.compared:
            reasons = "; ".join(finding.not_compared) or "the law has made no comparison"
            return "left out", f"nothing could be compared: {reasons}", finding
        if law.subject == "implementation" and not called:
            return "left out", "the law has not called the implementation", finding
        return "holds", "", finding

    def _is_rounding(self, case: AnyCase, law: Law, dtype: str, finding: Finding | None) -> bool:
        """Return whether a failure may be one of precision, not of the formula."""
        if not law.rounding or finding is None or finding.trial is None:
            return False
        size = error_in_ulps(finding)
        if not size <= LIMITS[dtype]:
            return False
        other = next(name for name in DTYPES if name != dtype)
        status, _, found = self._verdict(case, law, other, allowed(case, law, other).ulps)
        error = error_in_ulps(found) if found and found.compared else float("inf")
        known = error if math.isfinite(error) else None
        return is_rounding(size, dtype, known, other_holds=status == "holds")

    def _worse(self, worst: Finding, trial: Any, law: Law) -> Finding:
        """Return the worse of `worst` and what the law finds on a trial."""
        worst = worst if worst.trial is not None else Finding(trial)
        compared, not_compared = worst.compared, worst.not_compared.copy()
        unsupported, left_out = dict(worst.unsupported), worst.left_out
        if hasattr(trial, "shown"):
            trial.shown = None
        try:
            _require_support(trial)
            for label, found in law.check(trial):
                if isinstance(found, Unresolved):
                    not_compared[found.reason] += found.count
                    continue
                compared += found.count
                if found.unresolved:
                    not_compared[ILL_CONDITIONED] += found.unresolved
                if math.isnan(found.ulps):
                    found = replace(found, ulps=math.inf)
                if found.count and (worst.comparison is None or found.ulps > worst.ulps):
                    worst = Finding(trial, label, found, getattr(trial, "shown", None))
        except NotSupported as reason:
            unsupported[getattr(trial, "inputs", "")] = str(reason)
        except LeftOut as reason:
            left_out = str(reason)
        except (KeyboardInterrupt, GeneratorExit, TimeLimitExceeded):
            raise
        except BaseException as error:  # an implementation may raise anything, and call sys.exit
            if is_failure(error):
                worst = Finding(trial, shown=getattr(trial, "shown", None), error=error)
            else:
                worst = replace(worst, trial=trial, law_error=error)
        return replace(
            worst,
            compared=compared,
            not_compared=not_compared,
            unsupported=unsupported,
            left_out=left_out,
        )


def _require_support(trial: Any) -> None:
    """Build the implementation, so that an unsupported case costs no computation.

    Raises:
        NotSupported: The implementation lacks the case.
    """
    try:
        trial.built  # noqa: B018  (a random trial has none)
    except NotSupported:
        raise
    except Exception:
        pass  # the law meets it again, and reports it


def _own_error(law: Law, error: BaseException) -> str:
    return f"the law {law.name} itself raised {type(error).__name__}: {error}"


def _not_supported(finding: Finding) -> str:
    """Return the reasons, with the inputs on which the law was checked nevertheless."""
    reasons = "; ".join(dict.fromkeys(finding.unsupported.values()))
    if not finding.compared:
        return reasons
    where = ", ".join(filter(None, finding.unsupported)) or "some inputs"
    return f"on {where}: {reasons} (holds elsewhere, for {finding.compared} numbers)"
