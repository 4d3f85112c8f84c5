"""A run directory: what a training run leaves behind, and how it is read again.

It holds config.json, environment.json, metrics.jsonl, result.json, checkpoints/step-*.safetensors,
samples/*.png and tensorboard/.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from flowpp.checkpoint import Checkpoint
from flowpp.config import Config, from_dict, to_dict
from flowpp.data import ImageSet, load
from flowpp.files import write_json
from flowpp.model import FlowPlusPlus, build_model

KEPT_CHECKPOINTS = 2
"""The newest, and the one before in case the newest is damaged."""


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


def to_device(model: FlowPlusPlus, device: str) -> FlowPlusPlus:
    """The model on that device.

    Raises:
        ValueError: there is no such device here.
    """
    if device.split(":")[0] == "meta":
        raise ValueError(f"device {device!r} is not usable: its tensors hold no numbers")
    try:
        return model.to(device)
    except (RuntimeError, AssertionError) as error:  # as torch has it: a bad name, no CUDA
        raise ValueError(f"device {device!r} is not usable: {error}") from error


@dataclass(frozen=True)
class Run:
    """The directory of one run."""

    path: Path

    @classmethod
    def create(cls, path: Path, config: Config, environment: dict[str, Any]) -> Run:
        """Make the directory and write down the settings.

        Raises:
            ValueError: `path` exists and is not an empty directory.
        """
        check_new(path)
        for folder in ("checkpoints", "samples", "tensorboard"):
            (path / folder).mkdir(parents=True, exist_ok=True)
        write_json(path / "config.json", to_dict(config))
        write_json(path / "environment.json", environment)
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> Run:
        """An existing run.

        Raises:
            FileNotFoundError: there is no such directory.
            ValueError: the directory holds no run.
        """
        if not path.is_dir():
            raise FileNotFoundError(f"no run directory at {path}")
        if not (path / "config.json").is_file():
            raise ValueError(f"{path} is no run directory: it has no config.json")
        return cls(path)

    def config(self) -> Config:
        """The run's settings.

        Raises:
            ValueError: config.json is damaged, or has settings that this version does not know.
        """
        file = self.path / "config.json"
        try:
            return from_dict(Config, json.loads(file.read_text(encoding="utf-8")))
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"{file} is damaged or of another version: {error}") from error

    def log(self, record: dict[str, Any]) -> None:
        """Append one line to metrics.jsonl."""
        with open(self.path / "metrics.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def sample_path(self, step: int) -> Path:
        """Where the sample grid of that step lies."""
        return self.path / "samples" / f"step-{step:08d}.png"

    def checkpoints(self) -> list[Path]:
        """Checkpoint files, oldest first."""
        return sorted((self.path / "checkpoints").glob("step-*.safetensors"))

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint, then remove all but the newest few."""
        checkpoint.save(self.path / "checkpoints" / f"step-{checkpoint.step:08d}.safetensors")
        for old in self.checkpoints()[:-KEPT_CHECKPOINTS]:
            old.unlink()

    def checkpoint(self) -> Checkpoint:
        """The newest checkpoint.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it is damaged.
        """
        files = self.checkpoints()
        if not files:
            raise FileNotFoundError(f"{self.path} has no checkpoint yet")
        return Checkpoint.load(files[-1])

    def load(self, device: str = "cpu") -> tuple[Config, ImageSet, FlowPlusPlus]:
        """Settings, images, and the model with its averaged weights from the newest checkpoint.

        Raises:
            FileNotFoundError: the checkpoint or a data file is missing.
            ValueError: one of them is damaged, they do not belong together, or there is no such
                device.
        """
        config = self.config()
        checkpoint = self.checkpoint()
        images = load(config.data)
        model = build_model(config.model, image_shape=images.shape, levels=images.levels)
        checkpoint.restore(model, average=True)
        return config, images, to_device(model.eval(), device)
