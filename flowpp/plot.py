"""python -m flowpp.plot RUN [RUN ...] [--out DIR]: learning curves and samples as PNG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from flowpp.config.command_line import parse, user_errors
from flowpp.evaluation.figures import new_figure, save_figure
from flowpp.runs.metrics import HELD_OUT, Record
from flowpp.runtime.standard_output import exit_on_broken_pipe

if TYPE_CHECKING:
    from flowpp.runs.run import Run

IGNORED = 0.1
"""Initial fraction of a run that is ignored when scaling the axis: bits/dim fall steeply there."""


@dataclass(frozen=True)
class Arguments:
    """Command-line arguments."""

    runs: Annotated[
        Positional[tuple[Path, ...]],
        arg(metavar="RUN [RUN ...]", help_behavior_hint="(required)"),
    ]
    """Run directories, finished or not."""
    out: Annotated[
        Path | None, arg(metavar="FOLDER", help_behavior_hint="(default: the first RUN)")
    ] = None
    """Existing folder for curves.png and samples.png."""
    images_seen: bool = False
    """Draw against images seen instead of steps, to compare batch sizes."""

    def __post_init__(self) -> None:
        """Require at least one run and an existing output folder."""
        if not self.runs:
            raise ValueError("at least one RUN is required, got none")
        if self.out is not None and not self.out.is_dir():
            raise ValueError(f"out must be an existing folder, got {self.out}")


def draw_curves(runs: Sequence[Run], path: Path, *, images_seen: bool = False) -> None:
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
        colour, name = f"C{number % 10}", run.path.resolve().name
        _line(bits, records, "bits_per_dim", color=colour, alpha=0.4, linewidth=1)
        _held_out(bits, records, color=colour, label=name)
        _line(gradient, records, "grad_norm", color=colour, alpha=0.7, linewidth=0.8)
        _line(trips, records, "round_trip_max", color=colour, marker="o", markersize=3)
        _line(trips, records, "round_trip_median", color=colour, alpha=0.5, marker=".")
    last = max(r["step"] for r in drawn)
    _scale(bits, drawn, last)
    bits.set_ylabel("bits/dim (light: training; dark: held out)")
    bits.legend(frameon=False)
    gradient.set_ylabel("gradient norm")
    trips.set_ylabel("round-trip error")
    trips.set_title("grey levels: largest, and median (light)", fontsize=9)
    for axes in (gradient, trips):
        axes.set_yscale("log")
    for axes in (bits, gradient, trips):
        axes.set_xlabel("images seen" if images_seen else "step")
        axes.set_xlim(left=0, right=1.02 * last)
        axes.grid(alpha=0.2)
    save_figure(figure, path)


def draw_samples(runs: Sequence[Run], path: Path) -> bool:
    """Draw each run's newest sample grid side by side; return False if there are none."""
    from flowpp.data.decode import opened

    newest = {run.path.resolve().name: _newest_samples(run) for run in runs}
    grids = {name: file for name, file in newest.items() if file is not None}
    if not grids:
        return False
    figure = new_figure(4 * len(grids), 4.8)
    for number, (name, file) in enumerate(grids.items(), 1):
        axes = figure.add_subplot(1, len(grids), number)
        with opened(file, str(file)) as picture:
            axes.imshow(picture.convert("RGB"), interpolation="nearest")
        axes.set_title(f"{name}\nstep {int(file.stem.removeprefix('step-'))}", fontsize=9)
        axes.axis("off")
    save_figure(figure, path)
    return True


def main(argv: Sequence[str] | None = None) -> None:
    """Draw the curves and samples, and print their paths."""
    with user_errors():
        arguments = parse(
            Arguments,
            argv,
            prog="python -m flowpp.plot",
            description="Learning curves and samples of one or more runs as PNG.",
        )
        from flowpp.runs.run import Run  # imports torch

        runs = [Run.open(path) for path in arguments.runs]
        out = arguments.out or arguments.runs[0]
        draw_curves(runs, out / "curves.png", images_seen=arguments.images_seen)
        print(out / "curves.png")
        if draw_samples(runs, out / "samples.png"):
            print(out / "samples.png")


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
    if points:
        axes.plot(*zip(*points, strict=True), **style)


def _held_out(axes: Any, records: list[Record], **style: Any) -> None:
    rows = [r for r in records if r.get(HELD_OUT) is not None]
    # Drawn even without points, so that the legend has the run's name.
    axes.errorbar(
        [r["step"] for r in rows],
        [r[HELD_OUT] for r in rows],
        yerr=[2 * (r.get("held_out_standard_error") or 0.0) for r in rows],
        marker="o",
        markersize=3,
        capsize=2,
        **style,
    )


def _scale(axes: Any, records: list[Record], last: int) -> None:
    """Fit the axis to all but the first steps, which would flatten the rest."""
    values = [
        r[name]
        for r in records
        for name in ("bits_per_dim", HELD_OUT)
        if r.get(name) is not None and r["step"] >= IGNORED * last
    ]
    if values:
        margin = 0.05 * (max(values) - min(values)) + 1e-3
        axes.set_ylim(min(values) - margin, max(values) + margin)


def _newest_samples(run: Run) -> Path | None:
    return max((run.path / "samples").glob("step-*.png"), default=None)


if __name__ == "__main__":
    with exit_on_broken_pipe():
        main()
