"""python -m flowpp.benchmark.gpu_check --out FOLDER [--minutes 8] [--data FILE]: check a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowpp.config.command_line import parse, user_errors
from flowpp.runtime.standard_output import exit_on_broken_pipe

from .stage import Stage

STANDARD_PRESET, TINY_PRESET = "cifar10", "digits"


@dataclass(frozen=True)
class Arguments:
    """Command-line arguments."""

    out: Path
    """Folder for report.json, logs and pictures; new or empty."""
    minutes: float = 8.0
    """Time for everything; training gets what the other stages leave."""
    device: str = "cuda"
    """Device to check, such as cuda or cuda:1; cpu tries the stages out."""
    preset: str | None = None
    """Preset that is measured and trained: cifar10, or with `--tiny` digits."""
    data: Path | None = None
    """Images to train on: an `.npz` of uint8 arrays train and test, (N, height, width, channels).
    Without it cifar10 is trained on crops of scikit-learn's photographs."""
    tiny: bool = False
    """Measure as little as possible, to try the stages out."""
    stages: str | None = None
    """Names of stages, separated by commas; None for all."""
    scratch: Path | None = None
    """Folder for the run and other large files, new or empty; None for OUT/scratch."""
    keep: Path | None = None
    """Folder for a copy of the report named by date and card, such as tests/benchmarks/results."""

    def __post_init__(self) -> None:
        """Validate time and paths."""
        if not 0 < self.minutes <= 24 * 60:
            raise ValueError(f"minutes must be positive and at most a day, got {self.minutes}")
        if self.data is not None and not self.data.is_file():
            raise ValueError(f"data must be an existing file, got {self.data}")
        if self.keep is not None and not self.keep.is_dir():
            raise ValueError(f"keep must be an existing folder, got {self.keep}")


def main(argv: Sequence[str] | None = None, stages: Sequence[Stage] | None = None) -> Any:
    """Run the stages, print a line for each, and return the report.

    Raises:
        SystemExit: With status 1 if a stage has failed, 2 for a mistake in the arguments.
    """
    with user_errors():
        arguments = parse(
            Arguments,
            argv,
            prog="python -m flowpp.benchmark.gpu_check",
            description="Check a GPU: laws, tests, speed, accuracy, training and evaluation. "
            "Exit status 0 if every stage passed.",
        )
        from . import report
        from .check import Check

        chosen = named(arguments.stages, stages)
        plan = make_plan(arguments)  # creates folders
    check = Check(plan, chosen, arguments.minutes)
    print(report.LINE.format("stage", "status", "time", "result"), flush=True)
    for record in check.run():
        print(report.line(record.as_json()), flush=True)
    print(report.ending(check.report))
    print(f"report    {check.file}")
    if arguments.keep is not None:
        with user_errors():
            print(f"copy      {keep(arguments.keep, check.report)}")
    if not check.report["passed"]:
        raise SystemExit(1)
    return check.report


def make_plan(arguments: Arguments) -> Any:
    """Create the folders and return the plan.

    Raises:
        OSError: A folder cannot be created.
        ValueError: A folder that is not empty, or an unknown preset or device.
    """
    from flowpp.config import presets
    from flowpp.runtime.files import make_writable_folder

    from .plan import Plan, check_device

    preset = arguments.preset or (TINY_PRESET if arguments.tiny else STANDARD_PRESET)
    presets.get(preset)
    check_device(arguments.device)
    scratch = arguments.scratch or arguments.out / "scratch"
    for folder in (arguments.out, scratch):
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ValueError(f"folders of a check must be new or empty, got {folder}")
    make_writable_folder(arguments.out)
    make_writable_folder(scratch)
    data = None if arguments.data is None else arguments.data.resolve()
    return Plan(
        arguments.out.resolve(), scratch.resolve(), arguments.device, preset, data, arguments.tiny
    )


def named(names: str | None, stages: Sequence[Stage] | None) -> Sequence[Stage]:
    """Return the stages of these names, in their own order.

    Raises:
        ValueError: An unknown name.
    """
    from .stages import STAGES

    stages = STAGES if stages is None else stages
    if names is None:
        return stages
    asked = [name.strip() for name in names.split(",")]
    known = [stage.name for stage in stages]
    for name in asked:
        if name not in known:
            raise ValueError(f"stages must be a list of {', '.join(known)}, got {name!r}")
    return [stage for stage in stages if stage.name in asked]


def keep(folder: Path, report: dict[str, Any]) -> Path:
    """Write a copy of the report without logs and commands, and return its path."""
    from flowpp.benchmark import report_files
    from flowpp.runtime.files import write_json

    left_out = ("log_tail", "command")
    stages = [{k: v for k, v in s.items() if k not in left_out} for s in report["stages"]]
    path = report_files.path(folder, report, f"gpu-check-{report['preset']}")
    write_json(path, {**report, "stages": stages})
    return path


if __name__ == "__main__":
    with exit_on_broken_pipe():
        main()
