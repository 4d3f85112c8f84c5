"""python -m flowpp.report RUN [--out HTML]: one self-contained page of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from flowpp.config import checks
from flowpp.config.command_line import parse, user_errors
from flowpp.evaluation.arguments import DataPath
from flowpp.runtime.files import atomic_write, check_can_be_written, make_writable_folder
from flowpp.runtime.standard_output import exit_on_broken_pipe

if TYPE_CHECKING:
    from flowpp.runs.run import Run


@dataclass(frozen=True)
class Arguments:
    """Command-line arguments."""

    run: Annotated[Positional[Path], arg(metavar="RUN")]
    """Run directory, finished or not."""
    out: Annotated[
        Path | None, arg(metavar="HTML", help_behavior_hint="(default: RUN/report.html)")
    ] = None
    """File to write."""
    reconstructions: int = 8
    """Number of held-out images to reconstruct; 0 loads neither model nor data."""
    checkpoint: Literal["newest", "best"] = "newest"
    """Checkpoint for the reconstructions: the newest, or the best on held-out images."""
    data_path: DataPath = None
    """Path of the data set, if it has moved since training."""
    device: str = "auto"
    """Device to compute on, such as cpu, cuda or cuda:1; auto takes a GPU if there is one."""

    def __post_init__(self) -> None:
        """Validate the arguments."""
        checks.at_least("reconstructions", self.reconstructions, 0)
        if self.out is not None and self.out.suffix.lower() not in (".html", ".htm"):
            raise ValueError(f"out must end in .html, got {self.out}")
        if self.out is not None and self.out.is_dir():
            raise ValueError(f"out must be a file, got the folder {self.out}")
        if self.out is not None:
            check_can_be_written(self.out)


def main(argv: Sequence[str] | None = None) -> None:
    """Write the page."""
    with user_errors():
        arguments = parse(
            Arguments,
            argv,
            prog="python -m flowpp.report",
            description="One HTML page of a run: its number, curves, samples beside held-out "
            "images, reconstructions, settings, environment and warnings.",
        )
        from flowpp.evaluation.run_report import read_json, render  # imports torch
        from flowpp.runs.pretrained import refuse_pretrained
        from flowpp.runs.run import Run
        from flowpp.training.result import average_note

        refuse_pretrained(arguments.run, "its curves and samples", f"evaluate {arguments.run}")
        run = Run.open(arguments.run)
        out = arguments.out or arguments.run / "report.html"
        make_writable_folder(out.parent)
        warnings: list[str] = []
        steps = read_json(run.path / "result.json").get("steps")
        if isinstance(steps, int) and (note := average_note(run.config().training, steps)):
            warnings.append(note)
        page = render(run, _reconstructions(run, arguments), warnings)
        with atomic_write(out) as temporary:
            temporary.write_text(page, encoding="utf-8")
    print(out)


def _reconstructions(run: Run, arguments: Arguments) -> dict[str, str]:
    """Return a picture of held-out images and reconstructions, or why there is none."""
    import numpy as np

    from flowpp import trained_model
    from flowpp.evaluation.grids import grid
    from flowpp.evaluation.page_images import embedded_array
    from flowpp.root_finding import RootError
    from flowpp.runs.environment import check_images
    from flowpp.runs.open_model import load_images

    if not arguments.reconstructions:
        return {"text": "not computed, as asked"}
    notes: list[str] = []
    try:
        model = trained_model.load(
            run.path, device=arguments.device, checkpoint=arguments.checkpoint, warn=notes.append
        )
        data = load_images(model.config, arguments.data_path)
        check_images(run.path, data, model.image_shape, model.levels)
        count = min(arguments.reconstructions, len(data.test))
        chosen = np.linspace(0, len(data.test) - 1, count).astype(int)
        images, contexts = data.test[chosen], data.context_of("test")
        again, distance = model.round_trip(images, None if contexts is None else contexts[chosen])
        picture = grid(np.concatenate([images, again]), model.levels, columns=len(images))
    except (OSError, ValueError, RuntimeError, RootError) as error:
        return {"text": f"none: {' '.join(str(error).split())}"}
    changed = int((again != images).sum())
    text = (
        f"{len(images)} held-out images, and below each its reconstruction from z, step "
        f"{model.step}: {changed} of {images.size} pixel values changed; error before rounding "
        f"{np.median(distance):.1e} grey levels (median), {distance.max():.1e} (largest)"
    )
    return {"image": embedded_array(picture), "text": "; ".join([text, *notes])}


if __name__ == "__main__":
    with exit_on_broken_pipe():
        main()
