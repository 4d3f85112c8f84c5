"""python -m flowpp.train [PRESET] [--out DIR] [--resume RUN|auto] [--training.steps 100] ..."""

from __future__ import annotations

import dataclasses
import math
import shlex
import sys
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flowpp.config import Config, DataConfig, ModelConfig, TrainingConfig, presets
from flowpp.config.command_line import parse, user_errors, warn
from flowpp.config.migration import check_flags
from flowpp.config.unused_settings import check_used
from flowpp.runtime.files import check_can_be_written, make_writable_folder
from flowpp.runtime.standard_output import exit_on_broken_pipe

if TYPE_CHECKING:  # torch takes seconds to import: imported here for types only
    from flowpp.data import ImageSet
    from flowpp.runtime.distributed import ProcessGroup
    from flowpp.training.result import Result


@dataclass(frozen=True)
class Arguments:
    """Command-line arguments."""

    model: ModelConfig
    data: DataConfig
    training: TrainingConfig
    out: Path | None = None
    """Run directory, new or empty; runs/PRESET-DATE-TIME if not given."""
    init_from: Path | None = None
    """Run directory, checkpoint file or name of a pretrained model whose averaged weights to start
    from (fine-tuning); its model settings, and without PRESET its others too, become the defaults.
    Not with --resume."""
    resume: str | None = None
    """Run directory to resume, from its newest checkpoint and with its settings; `auto` resumes
    the run in --out, or else the newest unfinished run of the preset, if there is one."""


@dataclass(frozen=True)
class TrainRequest:
    """Settings and run directory of the run to start or resume."""

    config: Config
    out: Path | None
    resume: bool = False
    init_from: Path | None = None


def read_arguments(argv: Sequence[str]) -> TrainRequest:
    """Return the settings of a preset or of a run to resume, changed by the flags.

    Raises:
        FileNotFoundError: No such run to resume.
        ValueError: Unknown preset, flag of a former setting, value that a resumed run cannot
            change, or both --resume and --init-from.
        SystemExit: Unknown flag, value out of range, or help requested.
    """
    check_flags(argv)
    named, argv = _split_preset(argv)
    preset = _preset(named or "digits")
    _refuse_paths(argv)
    arguments = _parse(argv, preset)
    if arguments.init_from is not None:
        return _fine_tuning(named, preset, arguments, argv)
    if arguments.resume is None:
        return TrainRequest(_config(preset, arguments), arguments.out)
    from flowpp.runs.run import Run
    from flowpp.runtime.distributed import is_first_process
    from flowpp.training.resume import check_settings, find_run

    try:
        path = find_run(arguments.resume, arguments.out, preset.preset)
    except FileNotFoundError:
        if is_first_process():
            raise
        path = None  # on another machine, which gets the request of the first process
    if path is None:
        return TrainRequest(_config(preset, arguments), arguments.out)
    former = Run.open(path).config()
    if named is not None and named != former.preset:
        raise ValueError(f"{path} is a run of the preset {former.preset!r}, got {named!r}")
    config = _config(former, _parse(argv, former))
    check_settings(former, config)
    return TrainRequest(config, path, resume=True)


def _fine_tuning(
    named: str | None, preset: Config, arguments: Arguments, argv: Sequence[str]
) -> TrainRequest:
    """Return the settings of a run that starts from trained weights."""
    from flowpp.runs.open_model import stored_settings

    assert arguments.init_from is not None
    if arguments.resume is not None:
        raise ValueError(
            "--resume continues a run with its own weights: it must not be given with --init-from"
        )
    source = stored_settings(arguments.init_from)
    base = source if named is None else dataclasses.replace(preset, model=source.model)
    return TrainRequest(
        _config(base, _parse(argv, base)), arguments.out, init_from=arguments.init_from
    )


def _preset(name: str) -> Config:
    """Return a preset; suggest the command for images where the name is that of a folder.

    Raises:
        ValueError: An unknown name.
    """
    command = f"python -m flowpp.train small --data.path {shlex.quote(name)}"
    if name in presets.PRESETS:
        if Path(name).is_dir():
            warn(f"{name} is the preset of that name; to train on the folder:  {command}")
    elif Path(name).exists():
        raise ValueError(f"preset must be the first argument, got the path {name}; did you mean:  "
                         f"{command}")  # fmt: skip
    return presets.get(name)


def _refuse_paths(argv: Sequence[str]) -> None:
    """Refuse images without the name of their setting, after the preset.

    Raises:
        ValueError: The first argument is a path, such as one of the files that *.png stands for.
    """
    if argv and not argv[0].startswith("-") and Path(argv[0]).exists():
        path = Path(argv[0])
        folder = path if path.is_dir() or len(argv) < 2 or argv[1].startswith("-") else path.parent
        quoted = shlex.quote(str(folder))
        raise ValueError(
            f"images must be named by data.path, got {path}; did you mean:  --data.path {quoted}"
        )


def _split_preset(argv: Sequence[str]) -> tuple[str | None, Sequence[str]]:
    """Return the preset's name, the first argument or that after --preset, and the others."""
    for index, argument in enumerate(argv):
        if argument == "--preset" and index + 1 < len(argv):
            return argv[index + 1], [*argv[:index], *argv[index + 2 :]]
        if argument.startswith("--preset="):
            return argument.removeprefix("--preset="), [*argv[:index], *argv[index + 1 :]]
    if argv and not argv[0].startswith("-"):
        return argv[0], argv[1:]
    return None, argv


def _parse(argv: Sequence[str], default: Config) -> Arguments:
    return parse(
        Arguments,
        argv,
        prog="python -m flowpp.train [PRESET]",
        description="Train a Flow++ model and write a run directory.\n\n"
        f"PRESET is the first argument or follows --preset (default: digits):\n"
        f"{presets.summary()}\n\nThe defaults below are those of {default.preset}.",
        default=Arguments(default.model, default.data, default.training),
    )


def _config(base: Config, arguments: Arguments) -> Config:
    check_used(base.data, arguments.data)
    return dataclasses.replace(
        base, model=arguments.model, data=arguments.data, training=arguments.training
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    with user_errors():
        request = read_arguments(sys.argv[1:] if argv is None else list(argv))
    from flowpp.runtime.device import choose_device
    from flowpp.runtime.distributed import process_group

    with ExitStack() as stack:
        with user_errors():
            device = choose_device(request.config.training.device)
            group = stack.enter_context(process_group(device))
        # Processes would read different times for the directory's name, and see its creation.
        _train(group.broadcast_object(request), group)


def _train(request: TrainRequest, group: ProcessGroup) -> None:
    import torch

    from flowpp.data import autoconfig
    from flowpp.data.formats import count_of
    from flowpp.runs.checkpoint import CheckpointError
    from flowpp.runs.open_model import naming_moved_images
    from flowpp.runs.run import RunExistsError, check_new, create_default_out, is_new_or_aborted
    from flowpp.runtime.signals import TrainingInterrupted
    from flowpp.training.captured_step import CaptureError
    from flowpp.training.compiled_blocks import CompilationError
    from flowpp.training.first_batch import check_first_batch
    from flowpp.training.initial_weights import start_from
    from flowpp.training.loop import train
    from flowpp.training.non_finite import NonFiniteError
    from flowpp.training.result import average_note
    from flowpp.training.resume import ResumptionError
    from flowpp.training.setup import prepare

    with user_errors():
        given = request.out
        if given and group.is_main and not request.resume and not is_new_or_aborted(given):
            check_new(given)
        if group.is_main:
            check_can_be_written((given or Path("runs", "new")) / "config.json")
        config: Config = request.config
        notes: list[str] = []
        if not request.resume:
            config, notes = autoconfig.configure(config)
        with naming_moved_images() if request.resume else nullcontext():
            prepared = prepare(config, group)
        if request.init_from is not None:  # before the run directory exists
            start_from(request.init_from, prepared[1], group)
        elif not request.resume:
            check_first_batch(config.training, prepared[0])
        out = group.from_main(
            lambda: make_writable_folder(given) if given else create_default_out(config.preset)
        )
    skipped = prepared[0].skipped
    if skipped:
        notes.append(f"{count_of(len(skipped), 'file')} skipped, the first: {skipped[0]}")
    if group.is_main and notes:
        print("\n".join(notes))
    quoted = shlex.quote(str(out))
    try:
        result = train(
            config,
            out,
            prepared,
            resume=request.resume,
            group=group,
            init_from=request.init_from,
        )
    except TrainingInterrupted as stop:
        if group.is_main:
            print(f"{stop}; to resume:  python -m flowpp.train --resume {quoted}")
        raise SystemExit(128 + stop.number) from None
    except BrokenPipeError:
        raise  # the reader of standard output has closed it
    except OSError as error:
        is_run = (out / "config.json").is_file()  # it may have been removed meanwhile
        hint = f"; to resume:  python -m flowpp.train --resume {quoted}" if is_run else ""
        raise SystemExit(f"error: {' '.join(str(error).split())}{hint}") from None
    except (
        CaptureError, CheckpointError, CompilationError, NonFiniteError, ResumptionError,
        RunExistsError,  # another process has created it meanwhile
    ) as error:  # fmt: skip
        raise SystemExit(f"error: {error}") from None
    except torch.OutOfMemoryError as error:
        raise SystemExit(
            f"error: {str(error).splitlines()[0]}; needs less memory: --training.memory low, a "
            "larger --training.accumulate or a smaller --training.batch_size"
        ) from None
    if result.bits_per_dim is None:
        raise SystemExit(_failure(result, config, out) if group.is_main else 1)
    if group.is_main:
        _report(result, prepared[0], out)
        if note := average_note(config.training, result.steps):
            print(f"note      {note}")


def _report(result: Result, images: ImageSet, out: Path) -> None:
    from flowpp.evaluation.bound import Estimate
    from flowpp.evaluation.summary import summary, title

    assert result.bits_per_dim is not None
    error = math.nan if result.standard_error is None else result.standard_error
    bound = Estimate(result.bits_per_dim, error, len(images.test))
    valid = None
    if images.valid is not None and result.valid_bits_per_dim is not None:
        error = result.valid_standard_error or math.nan
        valid = Estimate(result.valid_bits_per_dim, error, len(images.valid))
    classes, unlabelled = result.classes(), None
    if result.without_label is not None:
        error = result.without_label_standard_error or math.nan
        unlabelled = Estimate(result.without_label, error, len(images.test))
    print(
        f"\n{title(images, len(images.test))}\n"
        f"{summary({1: bound}, images, valid, classes=classes, without_label=unlabelled)}\n"
        f"{result.steps} steps in {result.seconds:.0f} s"
        f"{f', stopped {result.stopped}' if result.stopped else ''}\n"
        f"{f'samples   {result.samples}' if result.samples else 'no samples: see above'}\n"
        f"next      python -m flowpp.evaluate {shlex.quote(str(out))} --importance-samples 64"
    )


def _failure(result: Result, config: Config, out: Path) -> str:
    """Return the error of a run that ended without a number."""
    from flowpp.runs.run import Run

    why = result.failure or "the held-out bits/dim are not finite"
    best = Run(out).best_path
    earlier = f"; the best checkpoint before is {best}" if best.is_file() else ""
    return (
        f"error: {why}; try a training.learning_rate below {config.training.learning_rate:g}"
        f"{earlier}"
    )


if __name__ == "__main__":
    with exit_on_broken_pipe():
        main()
