"""python -m flowpp.evaluate RUN [--importance-samples N] [--fingerprint]: held-out bits/dim."""

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
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from flowpp.config import checks
from flowpp.config.command_line import parse, user_errors
from flowpp.runtime.files import make_writable_folder

if TYPE_CHECKING:  # torch takes seconds to import: not for --help
    from flowpp.data import ImageSet
    from flowpp.model import FlowPlusPlus
    from flowpp.runs.checkpoint import Checkpoint
    from flowpp.runs.run import Run
    from flowpp.runtime.distributed import ProcessGroup


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
    fingerprint: bool = False
    """Instead: how far each layer's output and log-determinant are from float64 on the CPU, on 8
    images if --images does not say. To RUN/fingerprints, for `python -m conformance.fingerprint`,
    too."""
    out: Path | None = None
    """Where the receipt goes; RUN/evaluations/DATE.json if not given."""

    def __post_init__(self) -> None:
        """Refuse counts below one, and what is no memory or no seed."""
        checks.at_least("importance_samples", self.importance_samples, 1)
        checks.at_least("images", self.images, 1)
        if not 0 < self.memory < math.inf:
            raise ValueError(f"memory needs a positive number of megabytes, got {self.memory}")
        checks.seed("seed", self.seed)


def main(argv: Sequence[str] | None = None) -> None:
    """Print held-out bits per dimension of a trained model, and leave a receipt."""
    with user_errors():
        arguments = parse(
            Arguments,
            argv,
            prog="python -m flowpp.evaluate",
            description="Held-out bits/dim of a trained model, with its averaged weights.",
        )
        from flowpp.runtime import distributed  # after parsing: torch takes seconds

    with distributed.process_group() as group:
        if arguments.fingerprint:
            _fingerprint(arguments, group)
        else:
            _evaluate(arguments, group)


@dataclass(frozen=True)
class _Opened:
    """What there is to evaluate: the checkpoint, its model on the device, the images."""

    run: Run
    checkpoint: Checkpoint
    model: FlowPlusPlus
    images: ImageSet

    @classmethod
    def of(cls, arguments: Arguments, group: ProcessGroup) -> _Opened:
        """The run's newest checkpoint that is whole, and the images that it held out."""
        import torch

        from flowpp import data
        from flowpp.runs.restore import restored_model
        from flowpp.runs.run import Run
        from flowpp.runtime.device import local_device, to_device

        run = Run.open(arguments.run)
        config = run.config()
        # Read once and kept: a run still in training writes newer ones while this computes.
        checkpoint = run.checkpoint(say=print if group.is_main else lambda line: None)
        images = data.load(replace(config.data, path=arguments.data_path or config.data.path))
        model = restored_model(checkpoint, config.model, images.shape, images.levels)
        model = to_device(model, local_device(arguments.device))
        _check_data(run.path, images.sha256, images.name)
        group.broadcast(model)  # one process may have found a newer checkpoint than another
        return cls(run, checkpoint, model.to(getattr(torch, arguments.dtype)), images)


def _evaluate(arguments: Arguments, group: ProcessGroup) -> None:
    """The bounds, computed by all processes and told by the first."""
    import torch

    from flowpp.evaluation import baselines, importance
    from flowpp.evaluation.receipt import receipt
    from flowpp.runtime.files import write_json

    with user_errors():
        opened = _Opened.of(arguments, group)
        images, model = opened.images, opened.model
        count = _count(arguments.images, len(images.test), images.name)
        # Processes deal the batches out among them, and so need the same.
        batch = group.broadcast_object(importance.batch_for(model, images.shape, arguments.memory))
        name = f"{datetime.now():%Y%m%d-%H%M%S}.json"
        out = group.broadcast_object(arguments.out or opened.run.path / "evaluations" / name)
        if group.is_main:
            _check_new_file(out)
    test = images.test[:count]
    if group.is_main:
        shared = f", {group.size} processes" if group.size > 1 else ""
        print(f"held-out bits/dim on {images.name}, {count} images{shared}")
    begin = time.monotonic()
    with _progress(count * arguments.importance_samples, silent=not group.is_main) as advance:
        bounds = importance.importance_bounds(
            model, test, arguments.importance_samples, seed=arguments.seed, batch=batch,
            progress=lambda rows: advance(rows * group.size), group=group,
        )  # fmt: skip
    if not group.is_main:
        return
    seconds = time.monotonic() - begin
    for samples, estimate in bounds.items():
        what = "one-sample bound" if samples == 1 else f"{samples} importance samples"
        print(f"  {what:<26} {estimate}")
    print(f"  {'independent pixels':<26} {baselines.histogram_code(images):.4f} (all held-out)")
    print(f"  {'uniform':<26} {baselines.uniform_code(images):.4f}")
    written = receipt(
        images=images, count=count, bounds=bounds, checkpoint=opened.checkpoint,
        dtype=getattr(torch, arguments.dtype), device=next(model.parameters()).device,
        seed=arguments.seed, batch=batch, memory=arguments.memory, seconds=seconds,
    )  # fmt: skip
    with user_errors():
        write_json(out, written)
    print(f"receipt   {out}")


def _fingerprint(arguments: Arguments, group: ProcessGroup) -> None:
    """What this device makes of each layer, beside float64 on the CPU."""
    from flowpp.evaluation import fingerprint
    from flowpp.runs import environment
    from flowpp.runs.restore import restored_model
    from flowpp.runtime.files import write_json
    from flowpp.runtime.hashing import weights_hash

    with user_errors():
        if group.size > 1:
            raise ValueError(f"a fingerprint is one process's, got {group.size}")
        opened = _Opened.of(arguments, group)
        images, model, checkpoint = opened.images, opened.model, opened.checkpoint
        wanted = arguments.images or min(fingerprint.IMAGES, len(images.test))
        count = _count(wanted, len(images.test), images.name)
        device = next(model.parameters()).device
        name = f"{datetime.now():%Y%m%d-%H%M%S}-{device.type}-{arguments.dtype}.json"
        out = arguments.out or opened.run.path / "fingerprints" / name
        _check_new_file(out)
    described = environment.describe(device, arguments.seed, images)
    facts = {
        "device": described["device"],
        "device_name": described["device_name"],
        "dtype": arguments.dtype,
        "step": checkpoint.step,
        "weights_sha256": weights_hash(checkpoint.used(average=True)),
        "levels": images.levels,
        "environment": described,
    }
    found = fingerprint.record(model, images.test[:count], arguments.seed, facts)
    twin = restored_model(checkpoint, opened.run.config().model, images.shape, images.levels)
    report = fingerprint.compare(found, fingerprint.Float64(twin))
    print(fingerprint.table(report))
    with user_errors():
        found.save(out.with_suffix(".npz"))
        write_json(out, report)
    print(f"report    {out}\nrecording {out.with_suffix('.npz')}")
    print(f"by the reference:  python -m conformance.fingerprint {opened.run.path}")


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


def _check_new_file(path: Path) -> None:
    """Make its folder now: a place that cannot be written to should not show after hours."""
    if path.is_dir():
        raise ValueError(f"out must be a file, got the folder {path}")
    make_writable_folder(path.parent)


def _count(wanted: int | None, there: int, name: str) -> int:
    if wanted is not None and wanted > there:
        raise ValueError(
            f"images must be at most {there}, as many as {name} holds out, got {wanted}"
        )
    return wanted or there


@contextmanager
def _progress(total: int, *, silent: bool) -> Iterator[Any]:
    """A bar on a terminal, nothing in a pipe."""
    if silent or not sys.stderr.isatty():
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("evaluations", total=total)
        yield lambda count: bar.advance(task, count)


if __name__ == "__main__":
    main()
