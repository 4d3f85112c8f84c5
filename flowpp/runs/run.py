"""Run directories: settings, environment, metrics, checkpoints and samples of a training run.

A run directory contains config.json, environment.json, metrics.jsonl, result.json,
checkpoints/step-*.safetensors, checkpoints/best.safetensors, samples/*.png, tensorboard/,
non-finite/ if a loss or gradient was not finite, and images.npz if they were given in memory.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from flowpp.config import Config
from flowpp.config.serialization import from_dict, to_dict
from flowpp.runs.checkpoint import Checkpoint, CheckpointError
from flowpp.runs.metrics import Record, append_record, discard_after, read_records
from flowpp.runtime.files import atomic_write, write_json
from flowpp.runtime.hashing import weights_hash

KEPT_CHECKPOINTS = 3
"""Number of newest checkpoints to keep, as the last may be damaged; the best is kept as well."""
FOLDERS = ("checkpoints", "samples", "tensorboard")
WRITTEN_TO = (*FOLDERS, "evaluations", "fingerprints", "non-finite", ".lock", "metrics.jsonl")
"""Entries that are opened for writing in place and so must not be links.

All others are written to a temporary file and renamed, which replaces a link. Otherwise a run
directory from elsewhere could overwrite the reader's own files."""
IMAGES = "images.npz"
"""Images of a run that was started with images in memory."""
LARGEST_SETTINGS = 1 << 20
"""Upper bound on the size of config.json, in bytes."""


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


def check_new(path: Path) -> None:
    """Require a path where nothing would be overwritten.

    Raises:
        ValueError: `path` exists and is not an empty directory.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ValueError(f"run directory must be new or empty, got {path}")


@dataclass(frozen=True)
class Run:
    """The directory of one run."""

    path: Path

    @classmethod
    def create(cls, path: Path, config: Config, environment: dict[str, Any]) -> Run:
        """Create the directory and write the settings.

        Raises:
            ValueError: `path` contains anything but the remains of an interrupted creation.
        """
        if not is_new_or_aborted(path):
            check_new(path)
        for folder in FOLDERS:
            (path / folder).mkdir(parents=True, exist_ok=True)
        write_json(path / "environment.json", environment)
        write_json(path / "config.json", to_dict(config))  # last: its presence marks a run
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> Run:
        """Open an existing run.

        Raises:
            FileNotFoundError: the directory does not exist.
            ValueError: it is not a run directory, or an entry that is written to is a link.
        """
        if not path.is_dir():
            found = ", got a file" if path.is_file() else ""
            raise FileNotFoundError(f"no run directory at {path}{found}")
        if not (path / "config.json").is_file():
            raise ValueError(f"{path} is not a run directory: it has no config.json")
        for folder in WRITTEN_TO:
            if (path / folder).is_symlink():
                raise ValueError(
                    f"{path / folder} must not be a link, because runs are written to: link the "
                    "run directory itself"
                )
        return cls(path)

    def config(self) -> Config:
        """Read the run's settings.

        Raises:
            ValueError: config.json is damaged, or has settings unknown to this version.
        """
        file = self.path / "config.json"
        try:
            size = file.stat().st_size
            if size > LARGEST_SETTINGS:
                raise ValueError(f"size must be at most {LARGEST_SETTINGS:,} bytes, got {size:,}")
            return from_dict(Config, json.loads(file.read_text(encoding="utf-8")))
        except (ValueError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
            raise ValueError(f"{file} is damaged or of another version: {error}") from error

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the directory's lock, which the system releases when the process ends.

        Raises:
            BlockingIOError: another process holds it.
        """
        if os.name != "posix":
            yield
            return
        import fcntl

        with open(self.path / ".lock", "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BlockingIOError(f"another process is training in {self.path}") from None
            yield

    # ---- metrics
    # --------------------------------------------------------------------------------------------

    def append_record(self, record: Record) -> None:
        """Append one record to metrics.jsonl."""
        append_record(self.path / "metrics.jsonl", record)

    def metrics(self) -> list[Record]:
        """Read metrics.jsonl; raises as `read_records`."""
        return read_records(self.path / "metrics.jsonl")

    def rewind(self, step: int) -> None:
        """Discard the records after the checkpoint of `step`."""
        discard_after(self.path / "metrics.jsonl", step)

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
        """List the checkpoint files, oldest first."""
        return sorted((self.path / "checkpoints").glob("step-*.safetensors"))

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint, then remove all but the newest `KEPT_CHECKPOINTS`.

        Raises:
            OSError: the checkpoint could not be written; the earlier ones are unchanged.
        """
        checkpoint.save(self.checkpoint_path(checkpoint.step))
        for old in self.checkpoint_files()[:-KEPT_CHECKPOINTS]:
            old.unlink()

    def keep_as_best(self, step: int) -> None:
        """Keep a step's checkpoint under a second name, best.safetensors."""
        source = self.checkpoint_path(step)
        with atomic_write(self.best_path) as temporary:
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
        names = (re.fullmatch(r"step-(\d+)", file.stem) for file in self.checkpoint_files())
        return max((int(name[1]) for name in names if name), default=0)

    def sweep(self) -> None:
        """Remove the temporary files of interrupted writes."""
        for folder in (self.path, self.path / "checkpoints", self.path / "samples"):
            for part in folder.glob(".*.part"):
                part.unlink(missing_ok=True)


def is_new_or_aborted(path: Path) -> bool:
    """Return whether `path` does not exist or holds only the remains of an aborted creation."""
    if not path.exists():
        return True
    return path.is_dir() and all(
        item.is_dir()
        and item.name in FOLDERS
        and not any(item.iterdir())
        or item.name in ("environment.json", ".lock", IMAGES)
        or item.suffix == ".part"
        for item in path.iterdir()
    )
