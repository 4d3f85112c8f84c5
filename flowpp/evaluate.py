"""python -m flowpp.evaluate RUN [--importance-samples N] [--images N]: held-out bits/dim."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from flowpp import ranges
from flowpp.command_line import mistakes_in_one_line, parse
from flowpp.files import writable_folder


@dataclass(frozen=True)
class Arguments:
    """What can be said on the command line."""

    run: Annotated[Positional[Path], arg(metavar="RUN")]
    """The run directory."""
    importance_samples: int = 1
    """Draws per image for the importance-weighted bound; 1 for the one-sample bound alone."""
    images: int | None = None
    """So many of the held-out images, from the first; all if not given."""
    memory: float = 512.0
    """Megabytes for activations; more is faster, the result is the same."""
    seed: int = 0
    data_path: Annotated[str | None, arg(name="data.path")] = None
    """Where the images lie now, if not where the run found them."""
    device: str = "cpu"
    dtype: Literal["float32", "float64"] = "float32"
    out: Path | None = None
    """Where the receipt goes; RUN/evaluations/DATE.json if not given."""

    def __post_init__(self) -> None:
        """Refuse counts below one, and what is no memory or no seed."""
        ranges.at_least("importance_samples", self.importance_samples, 1)
        ranges.at_least("images", self.images, 1)
        if not 0 < self.memory < math.inf:
            raise ValueError(f"memory needs a positive number of megabytes, got {self.memory}")
        ranges.seed("seed", self.seed)


def main(argv: Sequence[str] | None = None) -> None:
    """Print held-out bits per dimension of a trained model, and leave a receipt."""
    with mistakes_in_one_line():
        arguments = parse(
            Arguments,
            argv,
            prog="python -m flowpp.evaluate",
            description="Held-out bits/dim of a trained model, with its averaged weights.",
        )
        import torch  # after parsing: it takes seconds

        from flowpp import baselines, data, importance, runs
        from flowpp.files import write_json
        from flowpp.model import build_model
        from flowpp.receipt import receipt

        run = runs.Run.open(arguments.run)
        config = run.config()
        # Read once and kept: a run still in training writes newer ones while this computes.
        checkpoint = run.checkpoint()
        images = data.load(replace(config.data, path=arguments.data_path or config.data.path))
        model = build_model(config.model, images.shape, images.levels).eval()
        checkpoint.restore(model, average=True)
        model = runs.to_device(model, arguments.device)
        _check_data(run.path, images.sha256, images.name)
        count = _count(arguments.images, len(images.test), images.name)
        model = model.to(getattr(torch, arguments.dtype))
        batch = importance.batch_for(model, images.shape, arguments.memory)
        out = _new_file(
            arguments.out or run.path / "evaluations" / f"{datetime.now():%Y%m%d-%H%M%S}.json"
        )
    test = images.test[:count]
    print(f"held-out bits/dim on {images.name}, {count} images")
    begin = time.monotonic()
    with _progress(count * arguments.importance_samples) as advance:
        bounds = importance.importance_bounds(
            model, test, arguments.importance_samples, seed=arguments.seed, batch=batch,
            progress=advance,
        )  # fmt: skip
    seconds = time.monotonic() - begin
    for samples, estimate in bounds.items():
        what = "one-sample bound" if samples == 1 else f"{samples} importance samples"
        print(f"  {what:<26} {estimate}")
    print(f"  {'independent pixels':<26} {baselines.histogram_code(images):.4f} (all held-out)")
    print(f"  {'uniform':<26} {baselines.uniform_code(images):.4f}")
    written = receipt(
        images=images, count=count, bounds=bounds, checkpoint=checkpoint,
        dtype=getattr(torch, arguments.dtype), device=torch.device(arguments.device),
        seed=arguments.seed, batch=batch, memory=arguments.memory, seconds=seconds,
    )  # fmt: skip
    with mistakes_in_one_line():
        write_json(out, written)
    print(f"receipt   {out}")


def _check_data(run: Path, found: str, name: str) -> None:
    """The images must be those that the run held out, or the figure would mean something else.

    Converted weights say null: which images they were trained on is not known.
    """
    file = run / "environment.json"
    try:
        recorded = json.loads(file.read_text(encoding="utf-8"))["data"]["sha256"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{file} is missing or damaged: {error}") from error
    if recorded is not None and recorded != found:
        raise ValueError(
            f"the run was trained on data with hash {str(recorded)[:12]}..., "
            f"but {name} now has {found[:12]}..."
        )


def _new_file(path: Path) -> Path:
    """Make its folder now: a place that cannot be written to should not show after hours."""
    if path.is_dir():
        raise ValueError(f"out must be a file, got the folder {path}")
    writable_folder(path.parent)
    return path


def _count(wanted: int | None, there: int, name: str) -> int:
    if wanted is not None and wanted > there:
        raise ValueError(
            f"images must be at most {there}, as many as {name} holds out, got {wanted}"
        )
    return wanted or there


@contextmanager
def _progress(total: int) -> Iterator[Any]:
    """A bar on a terminal, nothing in a pipe."""
    if not sys.stderr.isatty():
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("evaluations", total=total)
        yield lambda count: bar.advance(task, count)


if __name__ == "__main__":
    main()
