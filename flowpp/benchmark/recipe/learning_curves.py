"""Learning curves of a report's rows: means over seeds."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

from flowpp.evaluation.figures import new_figure

from .outcomes import values

SPREAD = 0.2
"""Opacity of the band of one standard deviation."""


def learning_curves(report: Mapping[str, Any]) -> Any:
    """Draw the held-out bound of each row against steps, with a band of one standard deviation.

    Points are those of the single seeds. Rows without values are left out.

    Raises:
        ValueError: No row has a value.
    """
    rows = [row for row in report["rows"] if any(values(row, step) for step in report["steps"])]
    if not rows:
        raise ValueError("the report must have held-out bounds, got none")
    figure = new_figure(8.4, 5)
    axes = figure.add_subplot()
    for number, row in enumerate(rows):
        _draw(axes, row, [step for step in report["steps"] if values(row, step)], number)
    axes.set_xlabel("steps of training")
    axes.set_ylabel("held-out bits/dim")
    axes.set_xticks(report["steps"])
    axes.grid(alpha=0.2)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return figure


def _draw(axes: Any, row: Mapping[str, Any], steps: list[int], number: int) -> None:
    found = [list(values(row, step).values()) for step in steps]
    means = [statistics.fmean(seeds) for seeds in found]
    spreads = [statistics.stdev(seeds) if len(seeds) > 1 else 0.0 for seeds in found]
    low = [mean - spread for mean, spread in zip(means, spreads, strict=True)]
    high = [mean + spread for mean, spread in zip(means, spreads, strict=True)]
    colour = f"C{number % 10}"
    style = "--" if row["source"] or number >= 10 else "-"
    axes.plot(steps, means, style, color=colour, label=row["name"])
    axes.fill_between(steps, low, high, color=colour, alpha=SPREAD, linewidth=0)
    for step, seeds in zip(steps, found, strict=True):
        axes.plot([step] * len(seeds), seeds, ".", color=colour, markersize=4)
