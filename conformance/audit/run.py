"""The whole audit, from options to a report."""

from __future__ import annotations

import platform
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from conformance.adapters.flowpp import FlowppAdapter
from conformance.audit import flowpp_run, verdicts
from conformance.audit.measures import clamp, inversion, models
from conformance.audit.measures.measure import Grids, Measured, measure
from conformance.audit.subjects.specimens import SPECIMENS
from conformance.audit.subjects.subject import Subject

from ..adapter import DTYPES, ReferenceAdapter, load
from .budget import Budget
from .verdicts import Verdict

NEWTON = "Newton, exact bracket (flowpp)"
PACKAGES = ("numpy", "scipy", "mpmath", "matplotlib", "torch")


@dataclass(frozen=True)
class Report:
    """All that was found.

    Attributes:
        numbers: everything as plain values: audit.json.
        verdicts: on the judged subjects.
        audit: on the specimens: whether the audit sees what it must see.
        grids: the points, for plots.
        judged, shown, specimens: measurements.
    """

    numbers: dict[str, Any]
    verdicts: list[Verdict]
    audit: list[Verdict]
    grids: Grids
    judged: list[Measured]
    shown: list[Measured] = field(default_factory=list)
    specimens: list[Measured] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether nothing failed."""
        return all(v.status != "bad" for v in (*self.verdicts, *self.audit))


def subjects(adapter: str | None) -> tuple[list[Subject], list[Subject]]:
    """Who is judged, and who is shown beside it.

    Raises:
        ValueError: no such adapter, or one without a mixture.
    """
    flowpp = [
        Subject("flowpp", FlowppAdapter, dtype, "judged") for dtype in ("float32", "float64")
    ]
    if adapter is None:
        return [*flowpp, Subject("reference", ReferenceAdapter, "float64", "judged")], []
    kind = load(adapter)
    judged, reasons = [], []
    for dtype in sorted(DTYPES):
        subject = Subject(kind.__name__, kind, dtype, "judged")  # type: ignore[arg-type]
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
    say: Callable[[str], None] = lambda text: None,
) -> Report:
    """Everything, in order.

    Args:
        judged: subjects whose verdicts count.
        shown: subjects beside them.
        budget: how much is looked at.
        seed: of every random number.
        path: a run directory of flowpp.train; None trains a small model, if the budget has steps.
        say: told what is being done.

    Raises:
        FileNotFoundError, ValueError: `path` is no usable run.
    """
    flowpp_run.one_thread()
    clock = _Clock(say)
    model, reason = _model(path, budget, seed, clock)
    at = Grids(budget, seed)
    measured = {}
    for role, group in (
        ("judged", judged),
        ("shown", shown),
        ("specimens", [
            Subject(kind.__name__, kind, dtype, "specimen")
            for kind in SPECIMENS for dtype in ("float32", "float64")
        ]),
    ):  # fmt: skip
        with clock(f"accuracy and inverse: {role}"):
            measured[role] = [measure(subject, at) for subject in group]
    with clock("clamps"):
        clamps = clamp.sweep(budget.line)
    with clock("methods of inversion"):
        methods = _methods(at)
    study: dict[str, Any] = {"left_out": reason}
    if model is not None:
        with clock("bits per dimension and round trips of the model"):
            study = models.study(
                model, [m.subject for m in measured["judged"] if not m.broken],
                cuda=flowpp_run.environment()["cuda"] is not None,
            )  # fmt: skip

    found = [v for m in measured["judged"] for v in _verdicts(m, methods, study)]
    audit = verdicts.of_audit([m for m in measured["specimens"] if m.subject.dtype == "float32"])
    numbers = {
        "environment": environment(seed),
        "seconds": clock.seconds,
        "verdicts": [vars(v) for v in found],
        "audit_of_the_audit": [vars(v) for v in audit],
        "subjects": [m.numbers for group in measured.values() for m in group],
        "clamp": clamps,
        "inversion": methods,
        "model": study,
    }
    return Report(numbers, found, audit, at, **measured)


def environment(seed: int) -> dict[str, Any]:
    """What the numbers depend on."""
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "processor": _processor(),
        "versions": {name: version(name) for name in PACKAGES},
        "seed": seed,
    } | flowpp_run.environment()


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            line = next((line for line in file if line.startswith("model name")), None)
    except OSError:
        line = None
    return line.split(":", 1)[1].strip() if line else platform.machine()


def _model(
    path: Path | None, budget: Budget, seed: int, clock: _Clock
) -> tuple[flowpp_run.Model | None, str | None]:
    if path is not None:
        with clock("opening the run"):
            return flowpp_run.Model.open(path, budget.images, seed), None
    if not budget.steps:
        return None, "no run was given, and a quick audit trains no model"
    with clock("training a small model on digits"), tempfile.TemporaryDirectory() as folder:
        run_directory = flowpp_run.train_small(Path(folder), budget.steps, seed)
        return flowpp_run.Model.open(run_directory, budget.images, seed), None


def _methods(at: Grids) -> dict[str, Any]:
    def newton(targets: Any, dtype: str) -> inversion.Search:
        arrays = (targets.x, *targets.parameters)
        return inversion.Search(*flowpp_run.newton(*arrays, dtype=dtype))

    methods = {NEWTON: newton} | inversion.METHODS
    return {
        dtype: {
            name: {
                kind: inversion.run(method, targets.rounded(dtype), dtype)
                for kind, targets in at.targets.items()
            }
            for name, method in methods.items()
        }
        for dtype in ("float32", "float64")
    }


def _verdicts(found: Measured, methods: dict[str, Any], study: dict[str, Any]) -> list[Verdict]:
    who, dtype = str(found.subject), found.subject.dtype
    results = verdicts.of_subject(found)
    if found.subject.native:
        results.append(verdicts.of_newton(who, dtype, methods[dtype][NEWTON]))
    if who in study.get("mixtures", {}):
        results += verdicts.of_model(who, dtype, study)
    return results


def plain(value: Any) -> Any:
    """For JSON: infinities and NaN become words, arrays lists."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else str(float(value))
    return value.item() if isinstance(value, np.generic) else value


class _Clock:
    """Seconds of each part."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.seconds: dict[str, float] = {}
        self._say = say

    def __call__(self, part: str) -> _Clock:
        self._part = part
        self._say(part)
        return self

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds[self._part] = round(time.perf_counter() - self._began, 2)
