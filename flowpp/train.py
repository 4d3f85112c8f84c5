"""python -m flowpp.train [PRESET] [--out DIR] [--resume RUN|auto] [--training.steps 100] ..."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flowpp.config import Config, DataConfig, ModelConfig, TrainingConfig, presets
from flowpp.config.command_line import parse, user_errors
from flowpp.runtime.files import make_writable_folder

if TYPE_CHECKING:  # torch takes seconds to import: not for --help
    from flowpp.data import ImageSet
    from flowpp.runtime.distributed import ProcessGroup
    from flowpp.training.result import Result

WORTH_A_NOTE = 0.05
"""Share of the average that the weights before the first step may have without a word."""


@dataclass(frozen=True)
class Arguments:
    """What can be changed on the command line."""

    model: ModelConfig
    data: DataConfig
    training: TrainingConfig
    out: Path | None = None
    """The run directory, new or empty; runs/PRESET-DATE-TIME if not given."""
    resume: str | None = None
    """Go on with this run, from its newest checkpoint and with its settings. `auto`: with the run
    in --out, or the newest unfinished one of this preset, if there is one."""


@dataclass(frozen=True)
class TrainRequest:
    """What is to be done."""

    config: Config
    out: Path | None
    resume: bool = False


def read_arguments(argv: Sequence[str]) -> TrainRequest:
    """Settings and run directory: a preset or a run, and what the flags change in it.

    Raises:
        FileNotFoundError: there is no such run to resume.
        ValueError: unknown preset, a value out of range, or one that a resumed run cannot change.
        SystemExit: unknown flag, or help was asked for.
    """
    named, argv = _preset(argv)
    preset = presets.get(named or "digits")
    arguments = _parse(argv, preset)
    if arguments.resume is None:
        return TrainRequest(_config(preset, arguments), arguments.out)
    from flowpp.runs.run import Run
    from flowpp.training.resume import check_settings, find_run

    path = find_run(arguments.resume, arguments.out, preset.preset)
    if path is None:
        return TrainRequest(_config(preset, arguments), arguments.out)
    former = Run.open(path).config()
    if named is not None and named != former.preset:
        raise ValueError(f"{path} is a run of the preset {former.preset!r}, got {named!r}")
    config = _config(former, _parse(argv, former))
    check_settings(former, config)
    return TrainRequest(config, path, resume=True)


def _preset(argv: Sequence[str]) -> tuple[str | None, Sequence[str]]:
    """The preset's name, as the first argument or anywhere behind --preset, and the rest."""
    for place, argument in enumerate(argv):
        if argument == "--preset" and place + 1 < len(argv):
            return argv[place + 1], [*argv[:place], *argv[place + 2 :]]
        if argument.startswith("--preset="):
            return argument.removeprefix("--preset="), [*argv[:place], *argv[place + 1 :]]
    if argv and not argv[0].startswith("-"):
        return argv[0], argv[1:]
    return None, argv


def _parse(argv: Sequence[str], default: Config) -> Arguments:
    return parse(
        Arguments,
        argv,
        prog="python -m flowpp.train [PRESET]",
        description="Train a Flow++ model and leave a run directory behind.\n\n"
        f"PRESET is the first argument or follows --preset (digits if there is none):\n"
        f"{presets.summary()}\n\nThe defaults below are those of {default.preset}.",
        default=Arguments(default.model, default.data, default.training),
    )


def _config(base: Config, arguments: Arguments) -> Config:
    return dataclasses.replace(
        base, model=arguments.model, data=arguments.data, training=arguments.training
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Train, then say what came out."""
    with user_errors():
        request = read_arguments(sys.argv[1:] if argv is None else list(argv))
    from flowpp.runtime import distributed

    with distributed.process_group() as group:
        # Names hold the time of day, and one process may already have made what another looks for.
        _train(group.broadcast_object(request), group)


def _train(request: TrainRequest, group: ProcessGroup) -> None:
    from flowpp.data import autoconfig
    from flowpp.runs import run as runs
    from flowpp.runs.checkpoint import CheckpointError
    from flowpp.runtime.signals import TrainingInterrupted
    from flowpp.training.loop import train
    from flowpp.training.non_finite import NonFiniteError
    from flowpp.training.resume import ResumptionError
    from flowpp.training.setup import prepare

    with user_errors():
        out = group.broadcast_object(request.out or runs.default_out(request.config.preset))
        if group.is_main and not request.resume and not runs.is_new_or_aborted(out):
            runs.check_new(out)
        config: Config = request.config
        notes: list[str] = []
        if not request.resume:
            config, notes = autoconfig.configure(config)
        prepared = prepare(config, group)
        make_writable_folder(out)
    skipped = prepared[0].skipped
    if skipped:
        notes.append(f"{len(skipped)} files skipped, the first: {skipped[0]}")
    if group.is_main and notes:
        print("\n".join(notes))
    try:
        result = train(config, out, prepared, resume=request.resume, group=group)
    except TrainingInterrupted as stop:
        if group.is_main:
            print(f"{stop}; to go on:  python -m flowpp.train --resume {out}")
        raise SystemExit(128 + stop.number) from None
    except OSError as error:
        hint = f"; to go on afterwards:  python -m flowpp.train --resume {out}"
        raise SystemExit(f"error: {' '.join(str(error).split())}{hint}") from None
    except (CheckpointError, NonFiniteError, ResumptionError) as error:
        raise SystemExit(f"error: {error}") from None
    if group.is_main:
        _report(result, prepared[0], out)
        if note := _note_on_average(config.training, result.steps):
            print(note)


def _report(result: Result, images: ImageSet, out: Path) -> None:
    print(
        f"\nheld-out bits/dim on {images.name}, one-sample bound, {len(images.test)} images\n"
        f"  this model            {result.bits_per_dim:.4f} +- {result.standard_error:.4f}\n"
        f"  independent pixels    {result.histogram:.4f}\n"
        f"  uniform               {result.uniform:.4f}\n"
        f"{result.steps} steps in {result.seconds:.0f} s\n"
        f"samples   {result.samples}\n"
        f"next      python -m flowpp.evaluate {out} --importance-samples 64"
    )


def _note_on_average(settings: TrainingConfig, steps: int) -> str | None:
    """What a beginner's short run shows: an average that still remembers the first weights."""
    share = settings.ema_decay**steps
    if share < WORTH_A_NOTE:
        return None
    enough = math.ceil(math.log(WORTH_A_NOTE) / math.log(settings.ema_decay))
    return (
        f"note      {share:.0%} of the averaged weights are still those before the first step: "
        f"with training.ema_decay {settings.ema_decay} take at least {enough} steps, or lower it"
    )


if __name__ == "__main__":
    main()
