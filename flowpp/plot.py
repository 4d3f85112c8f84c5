"""python -m flowpp.plot RUN [RUN ...] [--out DIR]: learning curves and samples as PNG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from flowpp.config.command_line import parse, user_errors
from flowpp.evaluation.figures import new_figure, save_figure
from flowpp.runtime.standard_output import exit_on_broken_pipe

if TYPE_CHECKING:
    from flowpp.runs.run import Run


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
    """Write the curves of all runs as PNG; see `evaluation.curves.curves_figure`.

    Raises:
        ValueError: a run has no metrics yet.
    """
    from flowpp.evaluation.curves import curves_figure  # imports torch

    save_figure(curves_figure(runs, images_seen=images_seen), path)


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
        step = int(file.stem.removeprefix("step-"))
        axes.set_title(f"{name}\nstep {step}", fontsize=9, parse_math=False)
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
        from flowpp.runs.pretrained import refuse_pretrained
        from flowpp.runs.run import Run  # imports torch

        for path in arguments.runs:
            refuse_pretrained(path, "its curves", f"sample {path}")
        runs = [Run.open(path) for path in arguments.runs]
        out = arguments.out or arguments.runs[0]
        draw_curves(runs, out / "curves.png", images_seen=arguments.images_seen)
        print(out / "curves.png")
        if draw_samples(runs, out / "samples.png"):
            print(out / "samples.png")


def _newest_samples(run: Run) -> Path | None:
    return max((run.path / "samples").glob("step-*.png"), default=None)


if __name__ == "__main__":
    with exit_on_broken_pipe():
        main()
