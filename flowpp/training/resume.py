"""Which run is taken up again, with which settings, and whether its checkpoint fits them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch

from flowpp.config import Config
from flowpp.config.schedule import parse_schedule
from flowpp.config.serialization import from_dict, to_dict
from flowpp.data import ImageSet
from flowpp.runs.checkpoint import Checkpoint, CheckpointError
from flowpp.runs.run import Run, is_new_or_aborted
from flowpp.runtime.distributed import ProcessGroup
from flowpp.runtime.files import write_json

T = TypeVar("T")
CHANGEABLE = frozenset(
    {
        "data.path",
        "training.steps",
        "training.learning_rate",
        "training.max_grad_norm",
        "training.log_every",
        "training.evaluate_every",
        "training.evaluation_images",
        "training.sample_count",
        "training.checkpoint_every",
        "training.checkpoint_minutes",
        "training.accumulate",
        "training.max_non_finite",
        "training.threads",
        "training.device",
        "training.deterministic",
    }
)
"""What a resumed run may set anew: how long and how fast it learns, how it is watched, where."""


IN_THE_NUMBERS = (
    "training.learning_rate",
    "training.max_grad_norm",
    "training.accumulate",
    "training.device",
    "training.deterministic",
)
"""Of these, what the weights depend on; of the steps, too, where the learning rate does."""
NOT_THE_SAME = "it goes on, but not bit for bit"


class ResumptionError(ValueError):
    """The run cannot go on as it is asked to."""


def find_run(resume: str, out: Path | None, preset: str) -> Path | None:
    """The directory to go on in; None to begin anew.

    Args:
        resume: a run directory, or `auto`: the run in `out` if there is one, else the newest
            unfinished run of this preset.
        out: where the run is to lie, if that was said.
        preset: name of the preset.

    Raises:
        FileNotFoundError: there is no such run.
        ValueError: the directory is no run; `out` names another one than `resume`.
    """
    if resume == "auto":
        if out is not None:
            return None if is_new_or_aborted(out) else Run.open(out).path
        return _newest_unfinished(preset)
    if out is not None and out.resolve() != Path(resume).resolve():
        raise ValueError(f"out must be left out or be {resume}, the run to go on with, got {out}")
    return Run.open(Path(resume)).path


def _newest_unfinished(preset: str) -> Path | None:
    candidates = [
        path.parent
        for path in Path("runs").glob(f"{preset}-*/config.json")
        if not (path.parent / "result.json").exists()
        and Run(path.parent).config().preset == preset
    ]
    return max(candidates, key=lambda path: (path / "config.json").stat().st_mtime, default=None)


def check_settings(former: Config, wanted: Config) -> None:
    """What describes the model, the data and the order of the images stays as it was.

    Raises:
        ValueError: a setting differs; the message names it.
    """
    before, after = _flat(to_dict(former)), _flat(to_dict(wanted))
    for name, value in after.items():
        if before.get(name) != value and name not in CHANGEABLE:
            raise ValueError(
                f"{name} is {before.get(name)} in the run and cannot become {value}; a run can "
                f"be resumed with other values of {', '.join(sorted(CHANGEABLE))}"
            )


def check_data(checkpoint: Checkpoint, images: ImageSet) -> None:
    """The images must be those that the checkpoint was trained on.

    Raises:
        CheckpointError: they have another hash.
    """
    recorded = str(checkpoint.facts.get("data_sha256"))
    if recorded != images.sha256:
        raise CheckpointError(
            f"the checkpoint of step {checkpoint.step} was trained on other data: its hash is "
            f"{recorded[:12]}..., {images.name} has {images.sha256[:12]}..."
        )


def check_steps(run: Run, config: Config) -> None:
    """A run can be made longer, not shorter than it is, be its newest checkpoint whole or not.

    Raises:
        ResumptionError: more steps are done than the settings ask for.
    """
    done = run.steps_done()
    if done > config.training.steps:
        raise ResumptionError(
            f"training.steps must be at least the {done} steps that the run has done, "
            f"got {config.training.steps}"
        )


def differences(checkpoint: Checkpoint, config: Config, now: dict[str, int]) -> list[str]:
    """Why the run will not have the bits of one that was never stopped, a line for each reason.

    Args:
        checkpoint: the one to go on from.
        config: the settings to go on with.
        now: "processes" and "threads" of this process.
    """
    notes = [
        f"{value} {name} where there were {checkpoint.facts.get(name)}: {NOT_THE_SAME}"
        for name, value in now.items()
        if checkpoint.facts.get(name) != value
    ]
    before, after = _recorded_settings(checkpoint), _flat(to_dict(config))
    for name in IN_THE_NUMBERS:
        if name in before and before[name] != after[name]:
            notes.append(f"{name} is {after[name]} and was {before[name]}: {NOT_THE_SAME}")
    steps = before.get("training.steps", config.training.steps)
    schedule = parse_schedule(config.training.schedule)
    if steps != config.training.steps and schedule.depends_on_length:
        notes.append(
            f"training.steps is {config.training.steps} and was {steps}, and the learning rate "
            f"depends on it: {NOT_THE_SAME}"
        )
    return notes


def finished_result(
    run: Run, images: ImageSet, config: Config, kind: Callable[..., T]
) -> T | None:
    """result.json as a `kind`, if the run ended with these settings and images and is whole."""
    try:
        recorded = json.loads((run.path / "result.json").read_text(encoding="utf-8"))
        newest = Checkpoint.load(run.checkpoints()[-1])
        check_data(newest, images)
        steps, result = recorded["steps"], kind(**recorded)
    except (OSError, ValueError, TypeError, KeyError, IndexError, RecursionError):
        return None  # not ended, or damaged: `resume_run` reports it
    ended = newest.step == steps == config.training.steps
    return result if ended and to_dict(run.config()) == to_dict(config) else None


def resume_run(
    run: Run, images: ImageSet, group: ProcessGroup, config: Config
) -> tuple[Checkpoint | None, list[str]]:
    """The checkpoint to go on from, and what is to be said about it; the log is cut to fit.

    Raises:
        CheckpointError: none is whole, or the newest was trained on other images.
        ResumptionError: more steps are done than `config` asks for.
    """
    notes: list[str] = []
    found = run.newest_valid_checkpoint(notes.append)
    if found is None:
        notes.append("there is no checkpoint yet: from the start")
    else:
        check_data(found, images)
        check_steps(run, config)
        notes.append(f"resumed after step {found.step}")
        now = {"processes": group.size, "threads": torch.get_num_threads()}
        notes += differences(found, config, now)
    group.barrier()  # until all have read what is removed or changed now
    if group.is_main:
        run.sweep()
        run.rewind(0 if found is None else found.step)
        write_json(run.path / "config.json", to_dict(config))
        (run.path / "result.json").unlink(missing_ok=True)
    group.barrier()
    return found, notes


def _recorded_settings(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the checkpoint's settings by dotted name; empty if they are unreadable."""
    try:
        return _flat(to_dict(from_dict(Config, checkpoint.facts.get("config"))))
    except (ValueError, TypeError, AttributeError, ArithmeticError, RecursionError):
        return {}


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        inner = _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else None
        flat |= {prefix + name: value} if inner is None else inner
    return flat
