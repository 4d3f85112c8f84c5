"""Run directories: settings, environment, metrics, checkpoints and samples of a training run.

A run directory contains config.json, environment.json, metrics.jsonl, result.json,
checkpoints/step-*.safetensors, checkpoints/best.safetensors, samples/*.png, tensorboard/,
non-finite/ if a loss or gradient was not finite, and images.npz if they were given in memory.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from flowpp.config import Config
from flowpp.config.serialization import from_dict, to_dict
from flowpp.runs.checkpoint import Checkpoint, CheckpointError
from flowpp.runs.metrics import Record, append_record, discard_after, read_records
from flowpp.runtime.bounded import read_json
from flowpp.runtime.files import atomic_write, write_json
from flowpp.runtime.hashing import weights_hash
from flowpp.runtime.locks import open_lock, try_lock
from flowpp.runtime.scratch import SUFFIX, sweep, sweep_after_safetensors

CHECKPOINT = re.compile(r"step-(.*)\.safetensors")
CONFIG, LOCK, METRICS = "config.json", ".lock", "metrics.jsonl"
KEPT_CHECKPOINTS = 3
"""Number of newest checkpoints to keep, as the last may be damaged; the best is kept as well."""
FOLDERS = ("checkpoints", "samples", "tensorboard")
FOLDERS_WRITTEN_TO = (*FOLDERS, "evaluations", "fingerprints", "non-finite")
FILES_WRITTEN_TO = (LOCK, METRICS)
"""Entries that are opened for writing in place, and so must be folders and files, not links.

All others are written to a temporary file and renamed, which replaces a link. Otherwise a run
directory from elsewhere could overwrite the reader's own files."""
IMAGES = "images.npz"
"""Images of a run that was started with images in memory."""
LARGEST_SETTINGS = 1 << 20
"""Upper bound on the size of config.json, in bytes."""
LARGEST_FACTS = 64 << 20
"""Upper bound on that of environment.json, which names skipped images, and of result.json."""


def create_default_out(preset: str) -> Path:
    """Create and return `runs/<preset>-<YYYYmmdd-HHMMSS>`, or a free name with -2, -3 ... added.

    Of runs that start in the same second, each gets a folder of its own.

    Raises:
        OSError: The folder cannot be created.
    """
    first = Path("runs") / f"{preset}-{datetime.now():%Y%m%d-%H%M%S}"
    for number in itertools.count(1):
        path = first if number == 1 else first.with_name(f"{first.name}-{number}")
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            if not path.parent.is_dir():
                raise
        else:
            return path
    raise AssertionError


class RunExistsError(ValueError):
    """Raised where a run would overwrite something."""


def check_new(path: Path) -> None:
    """Require a path where nothing would be overwritten.

    Raises:
        RunExistsError: `path` exists and is not an empty directory.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        is_run = (path / CONFIG).is_file()
        hint = f"; it holds a run: train --resume {path} continues it" if is_run else ""
        raise RunExistsError(f"run directory must be new or empty, got {path}{hint}")


@dataclass(frozen=True)
class Run:
    """The directory of one run."""

    path: Path

    @classmethod
    def create(cls, path: Path, config: Config, environment: dict[str, Any]) -> Run:
        """Create the directory and write the settings; a process that trains in it holds its lock.

        Raises:
            ValueError: `path` contains anything but the remains of an interrupted creation.
        """
        if not is_new_or_aborted(path):
            check_new(path)
        run = cls(path)
        path.mkdir(parents=True, exist_ok=True)
        run.make_folders()
        run.sweep()
        write_json(path / "environment.json", environment)
        write_json(path / "config.json", to_dict(config))  # last: its presence marks a run
        return run

    @classmethod
    @contextmanager
    def create_locked(
        cls, path: Path, config: Config, environment: dict[str, Any]
    ) -> Iterator[Run]:
        """Create a run and hold its lock in the block, so that no other process creates it too.

        Raises:
            BlockingIOError: another process holds the lock.
            ValueError: as `create`.
        """
        if not is_new_or_aborted(path):
            check_new(path)
        path.mkdir(parents=True, exist_ok=True)
        with cls(path).locked():  # checked again: another process may have created it meanwhile
            yield cls.create(path, config, environment)

    @classmethod
    def open(cls, path: Path | str) -> Run:
        """Open an existing run.

        Raises:
            FileNotFoundError: the directory does not exist.
            ValueError: it is not a run directory, or an entry that is written to is a link.
        """
        path = Path(path)
        if not path.is_dir():
            found = ", got a file" if path.is_file() else ""
            raise FileNotFoundError(f"no run directory at {path}{found}")
        if not (path / "config.json").is_file():
            raise ValueError(
                f"{path} is not a run directory: it has no config.json{_newest_inside(path)}"
            )
        _check_written_to(path)
        return cls(path)

    def config(self) -> Config:
        """Read the run's settings; images that the run keeps are found after it has been moved.

        Raises:
            ValueError: config.json is damaged, or has settings unknown to this version.
        """
        file = self.path / "config.json"
        try:
            config = from_dict(Config, read_json(file, LARGEST_SETTINGS))
        except (ValueError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
            raise ValueError(f"{file} is damaged or of another version: {error}") from error
        images = self.path / IMAGES
        if config.data.path and Path(config.data.path).name == IMAGES and images.is_file():
            config = replace(config, data=replace(config.data, path=str(images.resolve())))
        return config

    def facts(self, name: Literal["environment.json", "result.json"]) -> dict[str, Any]:
        """Read an object that was written beside the settings.

        Raises:
            FileNotFoundError: there is no such file.
            OSError: it cannot be read.
            ValueError: it is damaged.
        """
        file = self.path / name
        try:
            value = read_json(file, LARGEST_FACTS)
        except ValueError as error:
            raise ValueError(f"{file} is damaged: {error}") from error
        if not isinstance(value, dict):
            raise ValueError(
                f"{file} is damaged: it must be an object, got {type(value).__name__}"
            )
        return value

    @contextmanager
    def locked(self) -> Iterator[Run]:
        """Hold the directory's lock in the block, which the system releases when the process ends.

        Raises:
            BlockingIOError: another process holds it.
        """
        with open_lock(self.path / LOCK) as file:
            if try_lock(file) is False:
                raise BlockingIOError(f"another process is training in {self.path}")
            yield self

    # ---- metrics
    # --------------------------------------------------------------------------------------------

    def append_record(self, record: Record) -> None:
        """Append one record to metrics.jsonl."""
        append_record(self.path / METRICS, record)

    def metrics(self) -> list[Record]:
        """Read metrics.jsonl; raises as `read_records`."""
        return read_records(self.path / METRICS)

    def rewind(self, step: int) -> None:
        """Discard the records after the checkpoint of `step`."""
        discard_after(self.path / METRICS, step)

    def sample_path(self, step: int) -> Path:
        """Return the path of a step's sample grid."""
        return self.path / "samples" / f"step-{step:08d}.png"

    # ---- checkpoints
    # --------------------------------------------------------------------------------------------

    def checkpoint_path(self, step: int) -> Path:
        """Return the path of a step's checkpoint."""
        return self.path / "checkpoints" / f"step-{step:08d}.safetensors"

    @property
    def best_path(self) -> Path:
        """Path of the checkpoint with the lowest held-out bits per dimension."""
        return self.path / "checkpoints" / "best.safetensors"

    def checkpoint_files(self) -> list[Path]:
        """List the checkpoint files, oldest first.

        Raises:
            PermissionError: the folder cannot be read.
        """
        folder = self.path / "checkpoints"
        try:
            names = os.listdir(folder)  # unlike `glob`, it does not hide errors
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(folder / name for name in names if CHECKPOINT.fullmatch(name))

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint, then remove all but the newest `KEPT_CHECKPOINTS`.

        Raises:
            OSError: the checkpoint could not be written; the earlier ones are unchanged.
        """
        self.make_folders()  # they may have been removed since
        checkpoint.save(self.checkpoint_path(checkpoint.step))
        for old in self.checkpoint_files()[:-KEPT_CHECKPOINTS]:
            old.unlink()

    def keep_as_best(self, step: int) -> None:
        """Keep a step's checkpoint under a second name, best.safetensors."""
        source = self.checkpoint_path(step)
        with atomic_write(self.best_path) as temporary:
            temporary.unlink()
            try:
                os.link(source, temporary)
            except OSError:  # a file system without hard links
                shutil.copyfile(source, temporary)

    def load_checkpoint(
        self,
        which: Literal["newest", "best"] = "newest",
        warn: Callable[[str], None] | None = None,
    ) -> Checkpoint:
        """Load the newest checkpoint, or the best on held-out images.

        Args:
            which: the checkpoint to load.
            warn: called with a message for each damaged newest checkpoint that is skipped; if
                None, a damaged newest checkpoint is an error.

        Raises:
            FileNotFoundError: there is no such checkpoint.
            CheckpointError: it is damaged.
        """
        if which == "newest" and warn is not None:
            valid = self.newest_valid_checkpoint(warn)
            if valid is not None:
                return valid
        files = self.checkpoint_files() if which == "newest" else [self.best_path]
        if not files:
            raise FileNotFoundError(f"{self.path} has no checkpoint yet")
        return Checkpoint.load(files[-1])

    def newest_valid_checkpoint(self, warn: Callable[[str], None]) -> Checkpoint | None:
        """Load the newest checkpoint that is not damaged; None if there are no checkpoints.

        Args:
            warn: called with a message for each damaged checkpoint that is skipped.

        Raises:
            CheckpointError: all checkpoints are damaged.
        """
        errors: list[CheckpointError] = []
        for file in reversed(self.checkpoint_files()):
            try:
                checkpoint = Checkpoint.load(file)
            except CheckpointError as error:
                errors.append(error)
                continue
            except FileNotFoundError as error:  # a link to nothing
                errors.append(CheckpointError(str(error)))
                continue
            for skipped in errors:
                warn(f"{skipped}; going back to the one before")
            return checkpoint
        if len(errors) == 1:
            raise errors[0]
        if errors:
            raise CheckpointError(
                f"all {len(errors)} checkpoints of {self.path} are damaged: {errors[0]}"
            )
        return None

    def load_checkpoint_of_weights(self, sha256: str) -> Checkpoint:
        """Load the newest checkpoint whose averaged weights have this hash.

        Raises:
            ValueError: no checkpoint has such weights.
            CheckpointError: a checkpoint is damaged.
        """
        for file in (*reversed(self.checkpoint_files()), self.best_path):
            if not file.is_file():
                continue
            checkpoint = Checkpoint.load(file)
            if weights_hash(checkpoint.selected_weights(average=True)) == sha256:
                return checkpoint
        raise ValueError(f"no checkpoint of {self.path} has weights with hash {sha256!s:.12}...")

    def steps_done(self) -> int:
        """Return the step of the newest checkpoint, from its name; 0 if there is none."""
        names = (re.fullmatch(r"step-(\d{1,18})", file.stem) for file in self.checkpoint_files())
        return max((int(name[1]) for name in names if name), default=0)

    # ---- folders
    # --------------------------------------------------------------------------------------------

    def make_folders(self) -> None:
        """Create the folders that are missing, as copies of a run may lack empty ones."""
        for folder in FOLDERS:
            (self.path / folder).mkdir(exist_ok=True)

    def sweep(self) -> None:
        """Remove the temporary files of killed processes; the caller holds the lock."""
        for folder in (self.path, *(self.path / name for name in FOLDERS_WRITTEN_TO)):
            sweep(folder)
        for name in ("checkpoints", "non-finite"):
            sweep_after_safetensors(self.path / name)


def _check_written_to(path: Path) -> None:
    """Require folders and files, not links, where a run is written to.

    Raises:
        ValueError: an entry is something else.
    """
    for name in (*FOLDERS_WRITTEN_TO, *FILES_WRITTEN_TO):
        entry = path / name
        if entry.is_symlink():
            raise ValueError(
                f"{entry} must not be a link, because runs are written to: link the "
                "run directory itself"
            )
        if not entry.exists():
            continue
        if not (entry.is_dir() if name in FOLDERS_WRITTEN_TO else entry.is_file()):
            kind = "a folder" if name in FOLDERS_WRITTEN_TO else "a regular file"
            raise ValueError(f"{entry} must be {kind}, got something else")


def _newest_inside(folder: Path) -> str:
    """Return "; did you mean RUN?" with the newest run in a folder of runs, or nothing."""
    runs = [file for file in folder.glob("*/config.json") if file.is_file()]
    if not runs:
        return ""
    return f"; did you mean {max(runs, key=lambda file: file.stat().st_mtime).parent}?"


def is_new_or_aborted(path: Path) -> bool:
    """Return whether `path` does not exist or holds only the remains of an aborted creation."""
    if not path.exists():
        return True
    return path.is_dir() and all(
        item.is_dir()
        and item.name in FOLDERS
        and not any(item.iterdir())
        or item.name in ("environment.json", LOCK, IMAGES)
        or item.suffix == SUFFIX
        for item in path.iterdir()
    )
