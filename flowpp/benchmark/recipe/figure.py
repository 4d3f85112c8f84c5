"""python -m flowpp.benchmark.recipe.figure REPORT.json --kind KIND --out FILE.svg: a picture."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from flowpp.config.command_line import parse, user_errors
from flowpp.evaluation.figures import new_figure, svg
from flowpp.runtime.standard_output import exit_on_broken_pipe

TRAINED, FAILED = "#4c78a8", "#d62728"


@dataclass(frozen=True)
class Arguments:
    """Command-line arguments."""

    report: Annotated[Positional[Path], arg(metavar="REPORT")]
    """report.json of `python -m flowpp.benchmark recipe`."""
    out: Path
    """SVG file to write."""
    kind: Literal["steps", "curves", "scaling"] = "steps"
    """Kind of picture. steps: how far each row trained, and its bound; curves: bounds against
    steps; scaling: bounds against images seen, with the law fitted to them."""

    def __post_init__(self) -> None:
        """Require an existing folder."""
        if not self.out.parent.is_dir():
            raise ValueError(f"out must be in an existing folder, got {self.out}")


def stability(report: Mapping[str, Any]) -> Any:
    """Draw a bar for each row: the steps it did, and its bound or that it became NaN.

    Rows without runs are left out.

    Raises:
        ValueError: No row has a run.
    """
    rows = [row for row in report["rows"] if row["runs"]]
    if not rows:
        raise ValueError("the report must have runs, got none")
    figure = new_figure(8.4, 0.9 + 0.34 * len(rows))
    axes = figure.add_subplot()
    for place, row in enumerate(rows):
        failed = [run for run in row["runs"] if run.get("failure")]
        done = min(run["steps_done"] for run in failed or row["runs"])
        colour = FAILED if failed else TRAINED
        axes.barh(place, done, color=colour, height=0.62)
        text = f"NaN in step {done + 1}" if failed else _bound(row)
        axes.annotate(text, (done, place), (6, 0), textcoords="offset points", va="center")
        if failed:
            axes.plot([done], [place], marker="x", color="black", markersize=7, clip_on=False)
    axes.set_yticks(range(len(rows)), [row["name"] for row in rows])
    axes.invert_yaxis()
    longest = max(row["steps"] for row in rows)
    axes.set_xlim(0, 1.5 * longest)
    axes.set_xticks([0, longest / 3, 2 * longest / 3, longest])
    axes.set_xlabel("steps of training")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _bound(row: Mapping[str, Any]) -> str:
    last = [run["held_out"].get(str(row["steps"])) for run in row["runs"]]
    numbers = [value for value in last if value is not None]
    return f"{statistics.fmean(numbers):.3f} bits/dim held out" if numbers else "in progress"


def _drawn(report: Mapping[str, Any], kind: Literal["steps", "curves", "scaling"]) -> Any:
    """Return the picture of a report."""
    if kind == "steps":
        return stability(report)
    if kind == "curves":
        from .learning_curves import learning_curves

        return learning_curves(report)
    from .scaling import fit, points
    from .scaling_picture import scaling_picture

    given = points(report)
    return scaling_picture(given, fit(given))


def main(argv: Sequence[str] | None = None) -> None:
    """Draw the report and print the file's path."""
    with user_errors():
        arguments = parse(
            Arguments,
            sys.argv[1:] if argv is None else argv,
            prog="python -m flowpp.benchmark.recipe.figure",
            description="Draw a report: how far its rows trained, their learning curves, or the "
            "scaling law of their bounds.",
        )
        from flowpp.runtime.files import atomic_write

        from .outcomes import read_report

        picture = svg(_drawn(read_report(arguments.report), arguments.kind))
        with atomic_write(arguments.out) as temporary:
            temporary.write_text(f"{picture.rstrip()}\n", encoding="utf-8")
    print(arguments.out)


if __name__ == "__main__":
    with exit_on_broken_pipe():
        main()
