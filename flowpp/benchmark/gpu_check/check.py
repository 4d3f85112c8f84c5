"""Run the stages one after another within the time there is, and keep the report up to date."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from flowpp.runtime.files import write_json

from .plan import Plan
from .report import goals
from .stage import Record, Stage, carry_out

STANDARD_MINUTES = 8.0
"""Length of the check that the stages' time limits are stated for."""
SHORTEST_LIMIT = 20.0
TRAINING_SECONDS = 80.0
"""Time that the stages before training leave for it, in a check of the standard length."""
FORMAT = 1
"""Version of the report's format."""


class Check:
    """One check.

    Args:
        plan: What is checked, and where files lie.
        stages: Stages, in order.
        minutes: Time for all of them.
    """

    def __init__(self, plan: Plan, stages: Sequence[Stage], minutes: float) -> None:
        self.plan, self.stages, self.minutes = plan, stages, minutes
        self.start = time.monotonic()
        self.report: dict[str, Any] = {
            "format": FORMAT,
            "date": datetime.now(timezone.utc).date().isoformat(),
            "preset": plan.preset,
            "device": plan.device,
            "tiny": plan.tiny,
            "minutes": minutes,
            "passed": False,
            "failing": [],
            "machine": {},
            "goals": [],
            "stages": [],
        }

    @property
    def file(self) -> Path:
        """File of the report."""
        return self.plan.out / "report.json"

    def run(self) -> Iterator[Record]:
        """Carry out all stages; the report is written before each record is yielded."""
        for stage in self.stages:
            record = carry_out(stage, self.plan, self.seconds_for(stage))
            self._add(record)
            yield record

    def seconds_for(self, stage: Stage) -> float:
        """Return the seconds that a stage may take now."""
        left = 60 * self.minutes - (time.monotonic() - self.start)
        scale = self.minutes / STANDARD_MINUTES
        after = sum(self._limit(s) for s in self.stages if s.place == "after")
        if stage.place == "training":
            return left - after
        if stage.place == "before" and any(s.place == "training" for s in self.stages):
            left -= after + scale * TRAINING_SECONDS
        return min(left, self._limit(stage))

    def _limit(self, stage: Stage) -> float:
        """Return a stage's own time limit: loading torch alone may take ten seconds."""
        scale = self.minutes / STANDARD_MINUTES
        return max(SHORTEST_LIMIT, scale * stage.seconds)

    def _add(self, record: Record) -> None:
        report = self.report
        report["stages"].append(record.as_json())
        results = {r["name"]: r["result"] for r in report["stages"] if r["result"]}
        report["machine"] = results.get("machine", {})
        report["goals"] = goals(results) if self.plan.on_cuda else []
        optional = {stage.name for stage in self.stages if stage.optional}
        report["failing"] = [
            r["name"]
            for r in report["stages"]
            if r["status"] == "failed" or (r["status"] == "no time" and r["name"] not in optional)
        ]
        finished = len(report["stages"]) == len(self.stages)
        report["passed"] = finished and not report["failing"]
        report["seconds"] = time.monotonic() - self.start
        write_json(self.file, report)
        for picture in self.plan.folder(record.name).glob("*.png"):
            shutil.copyfile(picture, self.plan.out / picture.name)
