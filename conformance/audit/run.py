"""The whole audit, from implementations to a report."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from conformance.adapters.flowpp import FlowppAdapter
from conformance.audit import trained_model, verdicts
from conformance.audit.environment import environment
from conformance.audit.measures import clamp, inversion, models
from conformance.audit.measures.measure import Grids, Measurement, measure
from conformance.audit.subjects.specimens import SPECIMENS
from conformance.audit.subjects.subject import Subject

from ..adapter import Dtype, ReferenceAdapter, load
from .budget import Budget
from .verdicts import Verdict

NEWTON = "Newton, exact bracket (flowpp)"
DTYPES_UNDER_AUDIT: tuple[Dtype, ...] = ("float32", "float64")


@dataclass(frozen=True)
class Report:
    """Results of an audit.

    Attributes:
        numbers: Contents of audit.json.
        verdicts: Verdicts on the judged implementations.
        self_check: Verdicts on the audit itself: whether it caught the flaw of each specimen.
        grids: Points, for plots.
        judged: Measurements of the implementations whose verdicts set the exit status.
        shown: Measurements of the implementations shown for comparison.
        specimens: Measurements of the flawed formulas.
    """

    numbers: dict[str, Any]
    verdicts: list[Verdict]
    self_check: list[Verdict]
    grids: Grids
    judged: list[Measurement]
    shown: list[Measurement] = field(default_factory=list)
    specimens: list[Measurement] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether no verdict is bad."""
        return all(v.status != "bad" for v in (*self.verdicts, *self.self_check))


def subjects(adapter: str | None) -> tuple[list[Subject], list[Subject]]:
    """Return the implementations that are judged, and those shown for comparison.

    Args:
        adapter: Adapter as MODULE:CLASS; None for flowpp and the reference.

    Raises:
        ValueError: An unknown adapter, or one without a mixture.
    """
    flowpp = [Subject("flowpp", FlowppAdapter, dtype, "judged") for dtype in DTYPES_UNDER_AUDIT]
    if adapter is None:
        return [*flowpp, Subject("reference", ReferenceAdapter, "float64", "judged")], []
    kind = load(adapter)
    judged, reasons = [], []
    for dtype in DTYPES_UNDER_AUDIT:
        subject = Subject(kind.__name__, kind, dtype, "judged")
        reason = subject.supported()
        judged += [subject] if reason is None else []
        reasons += [] if reason is None else [f"{dtype}: {reason}"]
    if not judged:
        raise ValueError(f"{adapter} has no MixtureLogistic ({'; '.join(reasons)})")
    if all(s.native for s in judged):
        return judged, []
    return judged, [Subject(s.name, s.adapter, s.dtype, "shown") for s in flowpp]


def run(
    judged: list[Subject],
    shown: list[Subject],
    budget: Budget,
    seed: int,
    path: Path | None,
    progress: Callable[[str], None] = lambda text: None,
) -> Report:
    """Run the whole audit.

    Args:
        judged: Implementations whose verdicts count.
        shown: Implementations shown for comparison.
        budget: Numbers of points, images and training steps.
        seed: Seed of all random numbers.
        path: Run directory of flowpp.train; None trains a small model if the budget has steps.
        progress: Called with the name of each part when it starts.

    Raises:
        FileNotFoundError: `path` is not a run directory.
        ValueError: The run at `path` is damaged.
    """
    trained_model.one_thread()
    clock = _Stopwatch(progress)
    model, reason = _model(path, budget, seed, clock)
    grids = Grids(budget, seed)
    measured = {}
    for role, group in (("judged", judged), ("shown", shown), ("specimens", _specimens())):
        with clock(f"accuracy and inverse: {role}"):
            measured[role] = [measure(subject, grids) for subject in group]
    with clock("clamps"):
        clamps = clamp.sweep(budget.line)
    with clock("methods of inversion"):
        methods = _methods(grids)
    facts = environment(seed)
    study: dict[str, Any] = {"left_out": reason}
    if model is not None:
        working = [m.subject for m in measured["judged"] if not m.broken]
        with clock("bits per dimension and round trips of the model"):
            study = models.study(model, working, cuda=facts["cuda"] is not None)

    found = [v for m in measured["judged"] for v in _verdicts(m, methods, study)]
    single = [m for m in measured["specimens"] if m.subject.dtype == "float32"]
    self_check = verdicts.of_audit(single)
    numbers = {
        "environment": facts,
        "seconds": clock.seconds,
        "verdicts": [vars(v) for v in found],
        "audit_of_the_audit": [vars(v) for v in self_check],
        "subjects": [m.numbers for group in measured.values() for m in group],
        "clamp": clamps,
        "inversion": methods,
        "model": study,
    }
    return Report(numbers, found, self_check, grids, **measured)


def _specimens() -> list[Subject]:
    return [
        Subject(kind.__name__, kind, dtype, "specimen")
        for kind in SPECIMENS
        for dtype in DTYPES_UNDER_AUDIT
    ]


def _model(
    path: Path | None, budget: Budget, seed: int, clock: _Stopwatch
) -> tuple[trained_model.Model | None, str | None]:
    if path is not None:
        with clock("opening the run"):
            return trained_model.Model.open(path, budget.images, seed), None
    if not budget.steps:
        return None, "no run was given, and a quick audit does not train a model"
    with clock("training a small model on digits"), tempfile.TemporaryDirectory() as folder:
        run_directory = trained_model.train_small(Path(folder), budget.steps, seed)
        return trained_model.Model.open(run_directory, budget.images, seed), None


def _methods(grids: Grids) -> dict[str, Any]:
    def newton(targets: Any, dtype: str) -> inversion.Solution:
        arrays = (targets.x, *targets.parameters)
        return inversion.Solution(*trained_model.newton(*arrays, dtype=dtype))

    methods = {NEWTON: newton} | inversion.METHODS
    return {
        dtype: {
            name: {
                kind: inversion.run(method, targets.rounded(dtype), dtype)
                for kind, targets in grids.targets.items()
            }
            for name, method in methods.items()
        }
        for dtype in DTYPES_UNDER_AUDIT
    }


def _verdicts(found: Measurement, methods: dict[str, Any], study: dict[str, Any]) -> list[Verdict]:
    name, dtype = str(found.subject), found.subject.dtype
    results = verdicts.of_subject(found)
    if found.subject.native:
        results.append(verdicts.of_newton(name, dtype, methods[dtype][NEWTON]))
    if name in study.get("mixtures", {}):
        results += verdicts.of_model(name, dtype, study)
    return results


class _Stopwatch:
    """Report the start of each part, and record its seconds."""

    def __init__(self, progress: Callable[[str], None]) -> None:
        self.seconds: dict[str, float] = {}
        self._progress = progress

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        self._progress(part)
        start = time.perf_counter()
        yield
        self.seconds[part] = round(time.perf_counter() - start, 2)
