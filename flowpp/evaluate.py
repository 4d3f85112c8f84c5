"""python -m flowpp.evaluate RUN [--importance-samples N] [--fingerprint]: held-out bits/dim."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from flowpp.config import checks
from flowpp.config.command_line import parse, user_errors
from flowpp.config.settings import Precision
from flowpp.data.image_set import LABELS, Part
from flowpp.evaluation.arguments import Channels, DataPath, check_not_read
from flowpp.runtime.files import (
    check_can_be_written,
    make_writable_folder,
    unused_path,
    write_json,
)
from flowpp.runtime.standard_output import exit_on_broken_pipe

if TYPE_CHECKING:  # importing torch takes seconds: not for --help
    from flowpp.data import ImageSet
    from flowpp.runs.open_model import OpenedModel
    from flowpp.runtime.distributed import ProcessGroup


@dataclass(frozen=True)
class Arguments:
    """Command-line arguments."""

    run: Annotated[Positional[Path], arg(metavar="RUN")]
    """Run directory, checkpoint file, or name of a pretrained model."""
    importance_samples: int = 1
    """Draws per image for the importance-weighted bound; 1 computes the one-sample bound alone."""
    split: Part = "test"
    """Images to evaluate on, as divided in training: test (the held-out ones), valid or train."""
    image_count: Annotated[
        int | None,
        arg(
            name="images",
            metavar="INT",
            help_behavior_hint="(default: all; 8 with --fingerprint)",
        ),
    ] = None
    """Number of images, from the first."""
    memory: Annotated[
        float | None,
        arg(
            metavar="MEGABYTES",
            help_behavior_hint="(default: half of a GPU's free memory, 512 on a CPU)",
        ),
    ] = None
    """Memory for activations. More is faster; the result is the same within rounding."""
    batch_size: Annotated[
        int | None, arg(metavar="INT", help_behavior_hint="(default: what fits into the memory)")
    ] = None
    """Number of rows computed at once, instead of `memory`."""
    seed: Annotated[
        int | None, arg(metavar="INT", help_behavior_hint="(default: as in training)")
    ] = None
    """Seed of the dequantization noise; that of the training gives the number it ended with."""
    label: Annotated[
        str | None, arg(metavar="NAME", help_behavior_hint="(default: that of each image)")
    ] = None
    """Label of all images, for a model with labels; none gives the bound on P(x)."""
    labels: Annotated[
        Path | None, arg(metavar="CSV", help_behavior_hint="(default: the images' folders)")
    ] = None
    """With other_data: file with the class of each image: name of the image, class."""
    context: Annotated[
        Path | None, arg(metavar="PATH", help_behavior_hint="(default: made of each image)")
    ] = None
    """With other_data, of a model of vectors or of a second folder of images: a CSV or .npy, or a
    folder."""
    data_path: DataPath = None
    """Path of the data set, if it has moved since training; or of other images."""
    other_data: bool = False
    """Evaluate on all images of `data.path`, which are not the run's, in the form of its own."""
    channels: Channels = None
    """With other_data: convert all images to the model's channels, grey (1) or colour (3)."""
    skip_bad: bool = False
    """With other_data: leave out files that are not images of the model's kind."""
    checkpoint: Literal["newest", "best"] = "newest"
    """Checkpoint to evaluate: the newest, or the best on held-out images."""
    device: str = "auto"
    """Device to compute on, such as cpu, cuda or cuda:1; auto takes a GPU if there is one."""
    dtype: Literal["float32", "float64"] = "float32"
    """Floating-point type to compute in."""
    precision: Precision = "float32"
    """Arithmetic of float32, as in `training.precision`, whatever the model was trained in."""
    fingerprint: bool = False
    """Compare each layer with float64 on the CPU, instead of computing the bound.
    `python -m conformance.fingerprint RUN` then compares the results with the reference."""
    out: Annotated[
        Path | None,
        arg(metavar="JSON", help_behavior_hint="(default: RUN/evaluations or /fingerprints)"),
    ] = None
    """File for the results; without a run directory the folders lie beside the checkpoint file,
    or in the current folder."""

    def __post_init__(self) -> None:
        """Validate counts, memory and seed."""
        checks.at_least("importance_samples", self.importance_samples, 1)
        checks.at_least("images", self.image_count, 1)
        checks.at_least("batch_size", self.batch_size, 1)
        if self.memory is not None and not 0 < self.memory < math.inf:
            raise ValueError(f"memory must be a positive number of megabytes, got {self.memory}")
        if self.seed is not None:
            checks.seed("seed", self.seed)
        if self.out is not None:
            check_can_be_written(self.out)
        if self.other_data and not (self.data_path or "").strip():
            raise ValueError("other_data needs --data.path, the folder or file of images")
        if self.other_data and self.fingerprint:
            raise ValueError("fingerprint must be of the run's own images, got other_data")
        if self.other_data and self.split != "test":
            raise ValueError(
                f"split must be of the run's own images, got {self.split} and other_data, "
                "which evaluates all images"
            )
        if self.skip_bad and not self.other_data:
            raise ValueError("skip_bad needs other_data: the run's own images are as in training")
        for name in ("channels", "labels", "context"):
            given = getattr(self, name) is not None
            if given and not self.other_data:
                setting = "data.channels" if name == "channels" else name
                raise ValueError(f"{setting} needs other_data, got it without")
            if given and name != "channels" and self.label is not None:
                raise ValueError(f"label and {name} exclude each other, got both")
        if self.label is not None and self.fingerprint:
            raise ValueError("fingerprint must be of the images' own labels, got label")
        if self.dtype == "float64" and self.precision != "float32":
            raise ValueError(f"precision must be float32 with dtype float64, got {self.precision}")


def main(argv: Sequence[str] | None = None) -> None:
    """Print held-out bits per dimension of a trained model, and write a receipt."""
    with user_errors():
        arguments = parse(
            Arguments,
            argv,
            prog="python -m flowpp.evaluate",
            description="Held-out bits/dim of a trained model, with its averaged weights.",
        )
        from flowpp.runtime.device import choose_device  # imports torch
        from flowpp.runtime.distributed import process_group

    with ExitStack() as stack:
        with user_errors():
            group = stack.enter_context(process_group(choose_device(arguments.device)))
        if arguments.fingerprint:
            _fingerprint(arguments, group)
        else:
            _evaluate(arguments, group)


def _open(arguments: Arguments, group: ProcessGroup) -> tuple[OpenedModel, ImageSet]:
    """Restore the model in the requested dtype and on its device, and load its data set.

    The checkpoint is read once, because a run still in training replaces its files meanwhile.
    """
    import torch

    from flowpp.kernels.backend import check_variable
    from flowpp.runs.open_model import open_model
    from flowpp.runtime.device import local_device

    device = local_device(arguments.device)

    def report(line: str) -> None:
        if group.is_main:
            print(line)

    opened = open_model(arguments.run, which=arguments.checkpoint, device=device, warn=report)
    check_variable(device)
    images = _images(arguments, opened, report)
    group.broadcast(opened.model)  # one process may have found a newer checkpoint than another
    opened.model.to(getattr(torch, arguments.dtype))
    return opened, images


def _images(arguments: Arguments, opened: OpenedModel, report: Callable[[str], None]) -> ImageSet:
    """Return the run's images, or all images of other data as test images."""
    from flowpp.data.contexts_of_others import with_contexts
    from flowpp.evaluation.other_images import load_other
    from flowpp.runs.environment import check_images_of
    from flowpp.runs.open_model import load_images

    if arguments.other_data:
        others = load_other(
            Path(arguments.data_path or ""), opened,
            channels=arguments.channels, skip_bad=arguments.skip_bad,
        )  # fmt: skip
        for note in others.notes:
            report(note)
        if arguments.label is not None:
            return others.as_image_set()
        spec = opened.model.context_spec
        return with_contexts(others, spec, arguments.labels, arguments.context)
    try:
        images = load_images(opened.config, arguments.data_path)
        form = opened.image_shape, opened.model.levels
        if not check_images_of(arguments.run, opened.checkpoint.facts, images, *form):
            report(f"{arguments.run} does not record its data: the model may have been trained "
                   "on these images")  # fmt: skip
    except (ValueError, TypeError) as error:
        if arguments.data_path is None:
            raise
        raise ValueError(
            f"--other-data must be added to evaluate on other images than the run's; if "
            f"{arguments.data_path} should have the run's: {error}"
        ) from error
    return images


def _evaluate(arguments: Arguments, group: ProcessGroup) -> None:
    """Compute the bounds in all processes; print and write them in the main process."""
    import torch

    from flowpp.evaluation import per_class
    from flowpp.evaluation.bound import not_finite
    from flowpp.evaluation.part_contexts import part_contexts
    from flowpp.evaluation.progress import progress_bar
    from flowpp.evaluation.receipt import receipt
    from flowpp.evaluation.summary import summary, title

    with user_errors():
        opened, images = _open(arguments, group)
        model, seed = opened.model, _seed(arguments, opened)
        count = _image_count(arguments, images)
        contexts = part_contexts(images, arguments.split, count, opened, arguments.label)
        # The batches are divided among the processes, so all need the same size.
        memory, batch = group.broadcast_object(_memory_and_batch(arguments, opened))
        out = arguments.out or _folder(arguments, "evaluations") / f"{_now()}.json"
        out = group.broadcast_object(out)
        if group.is_main:
            _check_output_file(out)
            check_not_read(out, [arguments.labels, arguments.context, arguments.data_path])
    if group.is_main:
        processes = f", {group.size} processes" if group.size > 1 else ""
        heading = (
            f"bits/dim on {images.name}, {count} images, which are not the run's"
            if arguments.other_data
            else title(images, count, arguments.split)
        )
        print(f"{heading}{processes}")
    begin = time.monotonic()
    with progress_bar(count * arguments.importance_samples, silent=not group.is_main) as advance:
        bounds, classes = per_class.importance_bounds(
            model, images.part(arguments.split)[:count], arguments.importance_samples, seed=seed,
            batch=batch, progress=lambda rows: advance(rows * group.size), group=group,
            precision=arguments.precision, contexts=contexts,
        )  # fmt: skip
    if not group.is_main:
        return
    seconds = time.monotonic() - begin
    own = not arguments.other_data and arguments.split != "train"
    print(summary(bounds, images, part=arguments.split, independent=own, classes=classes))
    result = receipt(
        images=images, count=count, bounds=bounds, checkpoint=opened.checkpoint,
        dtype=getattr(torch, arguments.dtype), device=next(model.parameters()).device,
        seed=seed, batch=batch, memory=memory, seconds=seconds,
        precision=arguments.precision, augmentation=opened.config.data.augmentation,
        part="other" if arguments.other_data else arguments.split,
        context=model.context_spec, label=arguments.label, classes=classes,
    )  # fmt: skip
    with user_errors():
        if arguments.out is None:  # another evaluation may have begun in the same second
            out = unused_path(out)
        write_json(out, result)
    print(f"receipt   {out}")
    if problem := not_finite(bounds):
        raise SystemExit(f"error: {problem}")


def _memory_and_batch(arguments: Arguments, opened: OpenedModel) -> tuple[float | None, int]:
    """Return the megabytes for activations, None if they were not asked, and the rows at once."""
    from flowpp.evaluation.batch_size import activation_megabytes
    from flowpp.evaluation.importance import batch_for

    if arguments.batch_size is not None:
        return None, arguments.batch_size
    device = next(opened.model.parameters()).device
    memory = arguments.memory or activation_megabytes(device)
    return memory, batch_for(opened.model, opened.image_shape, memory)


def _fingerprint(arguments: Arguments, group: ProcessGroup) -> None:
    """Record each layer's output on this device and compare it with float64 on the CPU."""
    from flowpp.evaluation import comparison, fingerprint

    with user_errors():
        if group.size > 1:
            raise ValueError(f"--fingerprint must run in a single process, got {group.size}")
        opened, images = _open(arguments, group)
        if opened.model.context_spec is not None:
            raise ValueError(
                "--fingerprint must be of an unconditional model, got one conditioned on "
                f"{opened.model.context_spec.description}"
            )
        seed = _seed(arguments, opened)
        count = _image_count(arguments, images, fingerprint.IMAGES)
        device = next(opened.model.parameters()).device
        name = f"{_now()}-{device.type}-{arguments.dtype}.json"
        out = arguments.out or _folder(arguments, "fingerprints") / name
        _check_output_file(out)
    recorded = fingerprint.record(
        opened.model,
        images.part(arguments.split)[:count],
        seed,
        fingerprint.describe(opened, images, seed, arguments.precision),
        arguments.precision,
    )
    # float32 weights are exact in float64, so a copy needs no second reading of the checkpoint.
    report = comparison.compare(recorded, comparison.Float64(copy.deepcopy(opened.model)))
    print(comparison.table(report))
    with user_errors():
        recorded.save(out.with_suffix(".npz"))
        write_json(out, report)
    print(f"report    {out}\nrecording {out.with_suffix('.npz')}")
    print(f"to compare with the reference:  python -m conformance.fingerprint {arguments.run}")


def _seed(arguments: Arguments, opened: OpenedModel) -> int:
    return opened.config.training.seed if arguments.seed is None else arguments.seed


def _folder(arguments: Arguments, name: str) -> Path:
    """Return a folder of the run, or beside a checkpoint file."""
    run = arguments.run
    return (run if run.is_dir() else run.parent) / name


def _now() -> str:
    return f"{datetime.now():%Y%m%d-%H%M%S}"


def _check_output_file(path: Path) -> None:
    """Create the output's folder, so that an unwritable one fails before the computation."""
    if path.is_dir():
        raise ValueError(f"out must be a file, got the folder {path}")
    make_writable_folder(path.parent)


def _image_count(arguments: Arguments, images: ImageSet, usual: int | None = None) -> int:
    """Return the number of images to evaluate: as requested, else `usual` at most."""
    available = len(images.part(arguments.split))
    requested = arguments.image_count
    if requested is not None and requested > available:
        label = "held-out" if arguments.split == "test" else LABELS[arguments.split]
        raise ValueError(
            f"images must be at most {available}, the {label} images of {images.name}, "
            f"got {requested}"
        )
    return requested or min(available, usual or available)


if __name__ == "__main__":
    with exit_on_broken_pipe():
        main()
