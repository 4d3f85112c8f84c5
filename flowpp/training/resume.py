"""Resume a run: find it, check its settings and data, load its newest valid checkpoint."""

from __future__ import annotations

import glob
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from flowpp.config import Config
from flowpp.config.schedule import parse_schedule
from flowpp.config.serialization import from_dict, to_dict
from flowpp.data import ImageSet
from flowpp.runs.checkpoint import Checkpoint, CheckpointError
from flowpp.runs.environment import describe, read_differently
from flowpp.runs.environment_record import record_environment, recorded_facts
from flowpp.runs.machine_facts import different_facts, machine_facts
from flowpp.runs.pretrained import refuse_pretrained
from flowpp.runs.run import Run, is_new_or_aborted
from flowpp.runtime.distributed import ProcessGroup
from flowpp.runtime.files import finite_or_null, write_json
from flowpp.runtime.notes import note_once
from flowpp.training.result import Result

CHANGEABLE = frozenset(
    {
        "data.path",
        "data.split",
        "training.steps",
        "training.minutes",
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
        "training.compile",
        "training.cuda_graph",
    }
)
"""Settings that may change when a run is resumed; the images must stay the same."""
PATHS = ("data.labels", "data.context")
"""Settings that may change to another path of the same contexts, not to none."""
AFFECTING_WEIGHTS = (
    "training.learning_rate",
    "training.max_grad_norm",
    "training.accumulate",
    "training.device",
    "training.deterministic",
    "training.compile",
    "training.cuda_graph",
)
"""Changeable settings that affect the weights; the number of steps does where the schedule
depends on it."""
POSSIBLE = "the result may not be bit-identical to an uninterrupted run"
CERTAIN = "the result will not be bit-identical to an uninterrupted run"


class ResumptionError(ValueError):
    """A run that cannot be resumed with the given settings."""


def find_run(resume: str, out: Path | None, preset: str) -> Path | None:
    """Return the directory of the run to resume; None to start a new one.

    Args:
        resume: Run directory, or `auto`: the run in `out` if there is one, else the newest
            unfinished run of the preset.
        out: Run directory, if given.
        preset: Name of the preset.

    Raises:
        FileNotFoundError: No such run.
        ValueError: The directory is not a run, or `out` and `resume` differ; or the name of a
            pretrained model.
    """
    if resume == "auto":
        if out is not None:
            return None if is_new_or_aborted(out) else Run.open(out).path
        return _newest_unfinished(preset)
    if out is not None and out.resolve() != Path(resume).resolve():
        raise ValueError(f"out must be left out or be {resume}, the run to resume, got {out}")
    refuse_pretrained(Path(resume), "its training state", f"train --init-from {resume}")
    return Run.open(Path(resume)).path


def _newest_unfinished(preset: str) -> Path | None:
    """Return the unfinished run of a preset that was started last; damaged ones are named."""
    candidates: list[tuple[float, Path]] = []
    for file in Path("runs").glob(f"{glob.escape(preset)}-*/config.json"):
        try:
            if not (file.parent / "result.json").exists() and (
                Run.open(file.parent).config().preset == preset
            ):
                candidates.append((file.stat().st_mtime, file.parent))
        except (OSError, ValueError) as error:
            note_once(f"not resumed: {file}", f"--resume auto leaves out {file.parent}: {error}")
    return max(candidates, default=(0.0, None))[1]


def check_settings(former: Config, requested: Config) -> None:
    """Check that only changeable settings differ.

    Raises:
        ValueError: Another setting differs; the message names it.
    """
    before, after = _flat(to_dict(former)), _flat(to_dict(requested))
    for name, value in after.items():
        moved = name in PATHS and None not in (before.get(name), value)
        if before.get(name) != value and name not in CHANGEABLE and not moved:
            raise ValueError(
                f"{name} is {before.get(name)} in the run and cannot become {value}; a run can "
                f"be resumed with other values of {', '.join(sorted(CHANGEABLE))}"
            )


def check_data(checkpoint: Checkpoint, images: ImageSet) -> None:
    """Check that the images are those that the checkpoint was trained on.

    Raises:
        CheckpointError: Their hash differs.
    """
    recorded = checkpoint.facts.get("data_sha256")
    if recorded is not None and not images.has_hash(recorded):
        raise CheckpointError(
            f"the checkpoint of step {checkpoint.step} was trained on other data: its hash is "
            f"{str(recorded)[:12]}..., {images.name} has {images.sha256[:12]}..."
            + read_differently(images)
        )


def trained_images(checkpoint: Checkpoint | None, images: ImageSet) -> ImageSet:
    """Return the images that a run began with: without validation images if it knew none.

    Version 0.1.0 evaluated on the test images only, and recorded a hash without the others.
    """
    if checkpoint is None or checkpoint.facts.get("data_sha256") in (None, images.sha256):
        return images
    if images.context is not None:  # these are of later versions
        return images
    return replace(images, valid=None)


def check_steps(run: Run, config: Config) -> None:
    """Check that the run has not done more steps than requested.

    The file name of the newest checkpoint counts, even if the checkpoint is damaged.

    Raises:
        ResumptionError: More steps have been done.
    """
    done = run.steps_done()
    if done > config.training.steps:
        raise ResumptionError(
            f"training.steps must be at least the {done} steps that the run has done, "
            f"got {config.training.steps}"
        )


def differences(
    checkpoint: Checkpoint,
    config: Config,
    now: Mapping[str, Any],
    recorded: Mapping[str, Any] = MappingProxyType({}),
) -> list[str]:
    """Return a line for each reason why the result may differ from an uninterrupted run's.

    Facts that neither has, being of an earlier version, are not compared.

    Args:
        checkpoint: Checkpoint to resume from.
        config: Settings to resume with.
        now: The present `machine_facts`.
        recorded: Facts that count where the checkpoint lacks them.
    """
    notes = []
    if machine := different_facts({**recorded, **checkpoint.facts}, now):
        anew = checkpoint.facts.get("processes", now["processes"]) != now["processes"]
        notes.append(
            f"{', '.join(machine)}: {POSSIBLE}"
            + ("; noise and dropout are drawn anew" if anew else "")
        )
    shared = checkpoint.state and "random/noise" not in checkpoint.state
    if shared and checkpoint.facts.get("processes") == now["processes"] != 1:
        notes.append(
            "the checkpoint has one generator for the noise of all processes, as in version "
            f"0.1.0; now each has its own: {CERTAIN}"
        )
    before, after = _recorded_settings(checkpoint), _flat(to_dict(config))
    for name in AFFECTING_WEIGHTS:
        if name in before and before[name] != after[name]:
            effect = CERTAIN if name == "training.learning_rate" else POSSIBLE
            notes.append(f"{name} is {after[name]} and was {before[name]}: {effect}")
    # More steps alone change nothing unless the schedule refers to the run's length.
    steps = before.get("training.steps", config.training.steps)
    schedule = parse_schedule(config.training.schedule)
    if steps != config.training.steps and schedule.depends_on_length:
        notes.append(
            f"training.steps is {config.training.steps} and was {steps}, and the learning rate "
            f"depends on it: {CERTAIN}"
        )
    return notes


def finished_result(run: Run, images: ImageSet, config: Config) -> Result | None:
    """Return the result of a run that finished with these settings and images, or None.

    If result.json belongs to the settings, the newest checkpoint is read and compared with both.

    Args:
        run: The run.
        images: Data set.
        config: Settings.
    """
    try:
        recorded = finite_or_null(run.facts("result.json"))  # version 0.1.0 wrote NaN
        result = Result.of(recorded, run)
        steps = result.steps if result.stopped else config.training.steps
        if result.steps != steps or to_dict(run.config()) != to_dict(config):
            return None
        newest = run.load_checkpoint()
        check_data(newest, images)
    except PermissionError:
        raise
    except (OSError, ValueError, TypeError, KeyError, IndexError, RecursionError):
        return None  # unfinished or damaged: `resume_run` raises an error if need be
    return result if newest.step == steps else None


def resume_run(
    run: Run, images: ImageSet, device: torch.device, group: ProcessGroup, config: Config
) -> tuple[Checkpoint | None, list[str]]:
    """Prepare the run's directory for further steps; only rank 0 reads and writes it.

    Records after the checkpoint are removed from the metrics, and `config` becomes the run's.

    Returns:
        The newest valid checkpoint, if any, and in rank 0 lines for the user.

    Raises:
        CheckpointError: No checkpoint is valid, or the newest was trained on other images.
        ResumptionError: More steps have been done than `config` asks for, or the metrics are
            damaged.
    """
    facts = machine_facts(device, group.size, config.training.precision)
    checkpoint: Checkpoint | None = None
    notes: list[str] = []

    def read() -> bool:
        nonlocal checkpoint
        checkpoint = _read(run, images, facts, config, notes)
        described = describe(device, config.training.seed, images, config.training.precision)
        step = 0 if checkpoint is None else checkpoint.step
        if problem := record_environment(run, step, described):
            notes.append(problem)
        return checkpoint is not None

    if group.from_main(read):
        checkpoint = _broadcast(checkpoint, group)
    return checkpoint, notes


def _read(
    run: Run, images: ImageSet, facts: dict[str, Any], config: Config, notes: list[str]
) -> Checkpoint | None:
    """Do in one process what `resume_run` does in all; add the lines for the user to `notes`."""
    try:
        run.metrics()
    except ValueError as error:
        raise ResumptionError(f"{error}; repair or remove the file to resume") from error
    checkpoint = run.newest_valid_checkpoint(notes.append)
    if checkpoint is None:
        notes.append("no checkpoint yet: starting from step 0")
    else:
        check_data(checkpoint, images)
        check_steps(run, config)
        notes.append(f"resumed after step {checkpoint.step}")
        if checkpoint.facts.get("data_sha256") is None:
            notes.append(
                "the checkpoint does not record the hash of its data, so it is not known whether "
                f"{images.name} is the data of the run"
            )
        notes += differences(checkpoint, config, facts, recorded_facts(run))
    run.sweep()
    run.make_folders()
    run.rewind(0 if checkpoint is None else checkpoint.step)
    write_json(run.path / "config.json", to_dict(config))
    (run.path / "result.json").unlink(missing_ok=True)
    return checkpoint


def _broadcast(checkpoint: Checkpoint | None, group: ProcessGroup) -> Checkpoint:
    """Return rank 0's checkpoint in every process: other machines may not have the file."""
    outline = (0, {}) if checkpoint is None else (checkpoint.step, checkpoint.facts)
    step, facts = group.broadcast_object(outline)
    weights, ema, state = (
        group.broadcast_tensors({} if checkpoint is None else getattr(checkpoint, name))
        for name in ("weights", "ema", "state")
    )
    return Checkpoint(step, weights, ema, state, facts)


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
