"""Learning curves of runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flowpp.evaluation.figures import new_figure
from flowpp.runs.metrics import HELD_OUT, Record
from flowpp.runs.run import Run

IGNORED = 0.1
"""Initial fraction of a run that is ignored when scaling the axis: bits/dim fall steeply there."""


def curves_figure(runs: Sequence[Run], *, images_seen: bool = False) -> Any:
    """Plot bits per dimension, gradient norm and round-trip error of all runs against steps.

    With `images_seen` they are plotted against steps times batch size.

    Light lines are training batches, dark ones held-out images with two standard errors.

    Raises:
        ValueError: a run has no metrics yet.
    """
    figure = new_figure(10, 6.5)
    bits, gradient, trips = (figure.add_subplot(cell) for cell in _cells(figure))
    drawn: list[Record] = []
    for number, run in enumerate(runs):
        records = _records(run, images_seen=images_seen)
        drawn += records
        colour, name = f"C{number % 10}", run.path.resolve().name.replace("$", r"\$")
        _line(bits, records, "bits_per_dim", color=colour, alpha=0.4, linewidth=1)
        _held_out(bits, records, color=colour, label=name)
        _line(gradient, records, "grad_norm", color=colour, alpha=0.7, linewidth=0.8)
        _line(trips, records, "round_trip_max", color=colour, marker="o", markersize=3)
        _line(trips, records, "round_trip_median", color=colour, alpha=0.5, marker=".")
    last = max(r["step"] for r in drawn)
    _scale(bits, drawn, last)
    bits.set_title(
        "light: training batches; dark: held-out images, averaged weights, "
        "bars of \N{PLUS-MINUS SIGN}2 standard errors over images",
        fontsize=9,
    )
    bits.set_ylabel("bits/dim")
    bits.legend(frameon=False)
    gradient.set_title("norm of the gradient before clipping", fontsize=9)
    gradient.set_ylabel("nats per image")
    trips.set_title("round trip image, z, image: largest error, and median (light)", fontsize=9)
    trips.set_ylabel("grey levels")
    for axes in (gradient, trips):
        axes.set_yscale("log")
    for axes in (bits, gradient, trips):
        axes.set_xlabel("images seen" if images_seen else "step")
        axes.set_xlim(left=0, right=1.02 * last)
        axes.grid(alpha=0.2)
    return figure


def _cells(figure: Any) -> list[Any]:
    """Return the cells of a layout of one large panel above two small ones."""
    grid = figure.add_gridspec(2, 2, height_ratios=(2, 1))
    return [grid[0, :], grid[1, 0], grid[1, 1]]


def _records(run: Run, *, images_seen: bool) -> list[Record]:
    """Return the run's metrics; with `images_seen` their steps are numbers of images."""
    records = run.metrics()
    if not records:
        raise ValueError(f"{run.path} has no metrics yet")
    factor = run.config().training.batch_size if images_seen else 1
    return [{**r, "step": r["step"] * factor} for r in records]


def _line(axes: Any, records: list[Record], name: str, **style: Any) -> None:
    points = [(r["step"], r[name]) for r in records if r.get(name) is not None]
    if len(points) == 1:  # a line through it would not be visible
        style = {"marker": ".", **style}
    if points:
        axes.plot(*zip(*points, strict=True), **style)


def _held_out(axes: Any, records: list[Record], **style: Any) -> None:
    rows = [r for r in records if r.get(HELD_OUT) is not None]
    # Drawn even without points, so that the legend has the run's name.
    axes.errorbar(
        [r["step"] for r in rows],
        [r[HELD_OUT] for r in rows],
        yerr=[_bar(r) for r in rows],
        marker="o",
        markersize=3,
        capsize=2,
        **style,
    )


def _bar(record: Record) -> float:
    """Return the length of the bar to either side of an evaluation's mean."""
    return 2 * (record.get("held_out_standard_error") or 0.0)


def _scale(axes: Any, records: list[Record], last: int) -> None:
    """Fit the axis to all but the first steps, which would flatten the rest, bars included."""
    values = []
    for record in records:
        if record["step"] >= IGNORED * last:
            if (value := record.get("bits_per_dim")) is not None:
                values.append(value)
            if (value := record.get(HELD_OUT)) is not None:
                values += [value - _bar(record), value + _bar(record)]
    if values:
        margin = 0.05 * (max(values) - min(values)) + 1e-3
        axes.set_ylim(min(values) - margin, max(values) + margin)
