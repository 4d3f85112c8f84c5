"""A run directory: what a training run leaves behind, and how it is read again.

It holds config.json, environment.json, metrics.jsonl, result.json, checkpoints/step-*.safetensors,
checkpoints/best.safetensors, samples/*.png, tensorboard/, and non-finite/ where there was trouble.
"""

from __future__ import annotations

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
from flowpp.data import ImageSet, load
from flowpp.model import FlowPlusPlus
from flowpp.runs.checkpoint import Checkpoint, CheckpointError
from flowpp.runs.restore import restored_model
from flowpp.runtime.device import to_device
from flowpp.runtime.files import atomic_write, write_json

KEPT_CHECKPOINTS = 3
"""The newest, and those before in case it is damaged; the best is kept besides."""
FOLDERS = ("checkpoints", "samples", "tensorboard")
WRITTEN_TO = (*FOLDERS, "evaluations", "fingerprints", "non-finite", ".lock", "metrics.jsonl")
"""What is opened by name; all other files are written beside and renamed, so links to them fall.
A run directory that comes from elsewhere must not overwrite files of its reader's."""
LARGEST_SETTINGS = 1 << 20
"""Bytes of config.json."""
HELD_OUT = "held_out_bits_per_dim"


def default_out(preset: str) -> Path:
    """`runs/<preset>-<YYYYmmdd-HHMMSS>`."""
    return Path("runs") / f"{preset}-{datetime.now():%Y%m%d-%H%M%S}"


def check_new(path: Path) -> None:
    """Nothing of another run is ever overwritten.

    Raises:
        ValueError: `path` exists and is not an empty directory.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ValueError(f"the run directory must be new or empty, got {path}")


@dataclass(frozen=True)
class Run:
    """The directory of one run."""

    path: Path

    @classmethod
    def create(cls, path: Path, config: Config, environment: dict[str, Any]) -> Run:
        """Make the directory and write down the settings.

        Raises:
            ValueError: `path` exists and holds something that no unfinished creation leaves.
        """
        if not is_new_or_aborted(path):
            check_new(path)
        for folder in FOLDERS:
            (path / folder).mkdir(parents=True, exist_ok=True)
        write_json(path / "environment.json", environment)
        write_json(path / "config.json", to_dict(config))  # last: it makes this a run
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> Run:
        """An existing run.

        Raises:
            FileNotFoundError: there is no such directory.
            ValueError: the directory holds no run, or a folder in it is a link to another place.
        """
        if not path.is_dir():
            raise FileNotFoundError(f"no run directory at {path}")
        if not (path / "config.json").is_file():
            raise ValueError(f"{path} is no run directory: it has no config.json")
        for folder in WRITTEN_TO:
            if (path / folder).is_symlink():
                raise ValueError(
                    f"{path / folder} is a link, and a run is never written to through one: "
                    "link the run directory itself"
                )
        return cls(path)

    def config(self) -> Config:
        """The run's settings.

        Raises:
            ValueError: config.json is damaged, or has settings that this version does not know.
        """
        file = self.path / "config.json"
        try:
            size = file.stat().st_size
            if size > LARGEST_SETTINGS:
                raise ValueError(f"it has {size:,} bytes, at most {LARGEST_SETTINGS:,} are read")
            return from_dict(Config, json.loads(file.read_text(encoding="utf-8")))
        except (ValueError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
            raise ValueError(f"{file} is damaged or of another version: {error}") from error

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from training in this directory; a killed one's lock is void.

        Raises:
            BlockingIOError: another process has it.
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

    def log(self, record: dict[str, Any]) -> None:
        """Append one line to metrics.jsonl."""
        with open(self.path / "metrics.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def metrics(self) -> list[dict[str, Any]]:
        """The records so far; a last line that a crash cut short is left out.

        Raises:
            ValueError: another line is damaged; the message has its number.
        """
        file = self.path / "metrics.jsonl"
        if not file.is_file():
            return []
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
        records = []
        for number, line in enumerate(lines, 1):
            try:
                record = json.loads(line)
                record["step"] += 0
                if not isinstance(record.get(HELD_OUT, 0.0), int | float | None):
                    raise TypeError(f"{HELD_OUT} is no number: {record[HELD_OUT]!r}")
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
                if number == len(lines):
                    break
                raise ValueError(f"{file}, line {number} is damaged: {error}") from error
            records.append(record)
        return records

    def rewind(self, step: int) -> None:
        """Forget what was logged after a checkpoint, and the evaluation that follows it."""
        kept = [
            r
            for r in self.metrics()
            if r["step"] < step or (r["step"] == step and HELD_OUT not in r)
        ]
        with atomic_write(self.path / "metrics.jsonl") as temporary:
            text = "".join(json.dumps(record) + "\n" for record in kept)
            temporary.write_text(text, encoding="utf-8")

    def sample_path(self, step: int) -> Path:
        """Where the sample grid of that step lies."""
        return self.path / "samples" / f"step-{step:08d}.png"

    # ---- checkpoints
    # --------------------------------------------------------------------------------------------

    def checkpoint_path(self, step: int) -> Path:
        """Where the checkpoint of that step lies."""
        return self.path / "checkpoints" / f"step-{step:08d}.safetensors"

    @property
    def best_path(self) -> Path:
        """Where the checkpoint with the lowest held-out bits per dimension lies."""
        return self.path / "checkpoints" / "best.safetensors"

    def checkpoints(self) -> list[Path]:
        """Checkpoint files, oldest first."""
        return sorted((self.path / "checkpoints").glob("step-*.safetensors"))

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint, then remove all but the newest few.

        Raises:
            OSError: it could not be written; those before are as they were.
        """
        checkpoint.save(self.checkpoint_path(checkpoint.step))
        for old in self.checkpoints()[:-KEPT_CHECKPOINTS]:
            old.unlink()

    def keep_as_best(self, step: int) -> None:
        """Keep the checkpoint of that step under a second name."""
        source = self.checkpoint_path(step)
        with atomic_write(self.best_path) as temporary:
            try:
                os.link(source, temporary)
            except OSError:  # a file system without hard links
                shutil.copyfile(source, temporary)

    def checkpoint(
        self,
        which: Literal["newest", "best"] = "newest",
        say: Callable[[str], None] | None = None,
    ) -> Checkpoint:
        """The newest checkpoint, or the best evaluated one.

        Args:
            which: of the two.
            say: if the newest is damaged, the one before is taken, and this is told of it;
                without it there is an error.

        Raises:
            FileNotFoundError: there is none.
            CheckpointError: it is damaged.
        """
        if which == "newest" and say is not None:
            usable = self.newest_valid_checkpoint(say)
            if usable is not None:
                return usable
        files = self.checkpoints() if which == "newest" else [self.best_path]
        if not files:
            raise FileNotFoundError(f"{self.path} has no checkpoint yet")
        return Checkpoint.load(files[-1])

    def newest_valid_checkpoint(self, say: Callable[[str], None]) -> Checkpoint | None:
        """The newest checkpoint that is whole; None if none was written yet.

        Args:
            say: told of every damaged one that is passed over.

        Raises:
            CheckpointError: there are checkpoints, and all are damaged.
        """
        errors: list[CheckpointError] = []
        for file in reversed(self.checkpoints()):
            try:
                checkpoint = Checkpoint.load(file)
            except CheckpointError as error:
                errors.append(error)
                continue
            for passed_over in errors:
                say(f"{passed_over}; going back to the one before")
            return checkpoint
        if len(errors) == 1:
            raise errors[0]
        if errors:
            raise CheckpointError(
                f"all {len(errors)} checkpoints of {self.path} are damaged: {errors[0]}"
            )
        return None

    def steps_done(self) -> int:
        """Of the newest checkpoint, by its name; 0 if there is none."""
        names = (re.fullmatch(r"step-(\d+)", file.stem) for file in self.checkpoints())
        return max((int(name[1]) for name in names if name), default=0)

    def sweep(self) -> None:
        """Remove what a kill in the middle of writing has left."""
        for folder in (self.path, self.path / "checkpoints", self.path / "samples"):
            for part in folder.glob(".*.part"):
                part.unlink(missing_ok=True)

    def load(
        self, device: str = "cpu", which: Literal["newest", "best"] = "newest"
    ) -> tuple[Config, ImageSet, FlowPlusPlus]:
        """Settings, images, and the model with its averaged weights from a checkpoint.

        Raises:
            FileNotFoundError: the checkpoint or a data file is missing.
            ValueError: one of them is damaged, they do not belong together, or there is no such
                device.
        """
        config = self.config()
        checkpoint = self.checkpoint(which)
        images = load(config.data)
        model = restored_model(checkpoint, config.model, images.shape, images.levels)
        return config, images, to_device(model, device)


def is_new_or_aborted(path: Path) -> bool:
    """Whether this is what a process killed while it made a run directory leaves, or nothing."""
    if not path.exists():
        return True
    return path.is_dir() and all(
        item.is_dir()
        and item.name in FOLDERS
        and not any(item.iterdir())
        or item.name in ("environment.json", ".lock")
        or item.suffix == ".part"
        for item in path.iterdir()
    )
