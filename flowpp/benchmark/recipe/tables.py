"""Tables of a report in Markdown, and the statistics in them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .outcomes import values

CONFIDENCE = 0.95
MISSING = "-"


@dataclass(frozen=True)
class Difference:
    """Difference of two means over seeds.

    Args:
        mean: First mean less the second.
        half_width: Half the width of its 95 % interval by Student's t; None for single seeds.
    """

    mean: float
    half_width: float | None

    @property
    def is_clear(self) -> bool:
        """Whether the interval excludes 0."""
        return self.half_width is not None and abs(self.mean) > self.half_width

    def __str__(self) -> str:
        text = f"{self.mean:+.3f}"
        return text if self.half_width is None else f"{text} ± {self.half_width:.3f}"


def difference(row: Mapping[str, Any], other: Mapping[str, Any], step: int) -> Difference | None:
    """Compare two rows at a step; None if one of them has no value there.

    Runs of this library with the same seed see the same batches in the same order, and are
    compared in pairs; others by Welch's interval.
    """
    from scipy import stats

    first, second = values(row, step), values(other, step)
    if not first or not second:
        return None
    mean = statistics.fmean(first.values()) - statistics.fmean(second.values())
    if row["source"] is None and other["source"] is None:
        pairs = [first[seed] - second[seed] for seed in first if seed in second]
        if len(pairs) < 2:
            return Difference(pairs[0] if pairs else mean, None)
        error, freedom = statistics.stdev(pairs) / math.sqrt(len(pairs)), float(len(pairs) - 1)
        mean = statistics.fmean(pairs)
    else:
        if len(first) < 2 or len(second) < 2:
            return Difference(mean, None)
        a, b = (statistics.variance(v.values()) / len(v) for v in (first, second))
        error = math.sqrt(a + b)
        freedom = 1.0
        if error > 0:
            freedom = (a + b) ** 2 / (a**2 / (len(first) - 1) + b**2 / (len(second) - 1))
    quantile = float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom))
    return Difference(mean, error * quantile)


def markdown(report: Mapping[str, Any]) -> str:
    """Return the report's table with a caption."""
    return f"{table(report)}\n\n{caption(report)}"


def table(report: Mapping[str, Any]) -> str:
    """Return the report's table of the rows that have runs."""
    steps = report["steps"]
    rows = [row for row in report["rows"] if row["runs"]]
    by_name = {row["name"]: row for row in rows}
    head = ["recipe", "weights", "s/step", *(f"{step:,}" for step in steps), "difference", "runs"]
    lines = [_line(head), _line(["---"] * len(head))]
    for row in rows:
        other = by_name.get(row.get("against") or "")
        lines.append(
            _line(
                [
                    row["name"] + (", averaged weights" if row["ema_decay"] else ""),
                    MISSING if row["weights"] is None else f"{row['weights']:,}",
                    _seconds(row["runs"]),
                    *(_cell(row, step) for step in steps),
                    _difference_cell(row, other, steps),
                    _runs(row),
                ]
            )
        )
    return "\n".join(lines)


def caption(report: Mapping[str, Any]) -> str:
    """Return what the numbers of a table are."""
    text = (
        f"{report['protocol']} Mean ± standard deviation over seeds. Difference: at the last step "
        "that both have, with its 95 % interval over seeds; bold where the interval excludes 0."
    )
    names: dict[str, list[str]] = {}
    for row in report["rows"]:
        if row["source"]:
            names.setdefault(row["source"], []).append(row["name"])
    return text + "".join(
        f" Quoted: {'; '.join(rows)} (source: {source})." for source, rows in names.items()
    )


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(row: Mapping[str, Any], step: int) -> str:
    found = list(values(row, step).values())
    if not found:
        return MISSING
    mean = f"{statistics.fmean(found):.3f}"
    return mean if len(found) < 2 else f"{mean} ± {statistics.stdev(found):.3f}"


def _difference_cell(
    row: Mapping[str, Any], other: Mapping[str, Any] | None, steps: Sequence[int]
) -> str:
    if other is None or other is row:
        return MISSING
    for step in reversed(steps):
        if found := difference(row, other, step):
            return f"**{found}**" if found.is_clear else str(found)
    return MISSING


def _seconds(runs: Sequence[Mapping[str, Any]]) -> str:
    found = [run["seconds_per_step"] for run in runs if run.get("seconds_per_step")]
    return f"{statistics.median(found):.2f}" if found else MISSING


def _runs(row: Mapping[str, Any]) -> str:
    """Return the number of runs, and what those that have not reached the end did."""
    runs = row["runs"]
    notes = [
        f"seed {run['seed']} failed after step {run['steps_done']}"
        for run in runs
        if run.get("failure")
    ]
    unfinished = [
        run for run in runs if run["steps_done"] < row["steps"] and not run.get("failure")
    ]
    if unfinished:
        notes.append(f"{len(unfinished)} unfinished")
    skipped = sum(run.get("skipped") or 0 for run in runs)
    if skipped:
        notes.append(f"{skipped} steps skipped")
    return str(len(runs)) + (f" ({', '.join(notes)})" if notes else "")
