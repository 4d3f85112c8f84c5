"""Plan of a check: its device, model and folders."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import flowpp


@dataclass(frozen=True)
class Plan:
    """Settings that all stages share.

    Args:
        out: Folder of the report, logs and pictures.
        scratch: Folder of the run and of other large files.
        device: Device, as torch names it.
        preset: Preset whose model is measured and trained.
        data: An `.npz` of training images, or None for images that come with the library.
        tiny: Whether to measure as little as possible, to try out the stages.
    """

    out: Path
    scratch: Path
    device: str
    preset: str
    data: Path | None
    tiny: bool

    @property
    def on_cuda(self) -> bool:
        """Whether the device is a GPU."""
        return self.device.startswith("cuda")

    @property
    def run(self) -> Path:
        """Run directory of the training stage."""
        return self.scratch / "run"

    def folder(self, stage: str) -> Path:
        """Return the folder to which a stage writes its results."""
        return self.scratch / "stages" / stage


def check_device(device: str) -> None:
    """Validate a device, without occupying memory on it.

    Raises:
        ValueError: An unknown or unavailable device.
    """
    import torch

    kind, _, index = device.partition(":")
    if kind not in ("cpu", "cuda") or not (index or "0").isdecimal():
        raise ValueError(f"device must be cpu, cuda or cuda:N, got {device!r}")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device must be one of the {torch.cuda.device_count()} CUDA devices that torch "
            f"finds, got {device!r}; --device cpu --tiny tries the stages out"
        )


ROOT = Path(flowpp.__file__).resolve().parents[1]
"""Folder that contains the packages, and in a checkout also the tests."""


def python(module: str, *arguments: object) -> list[str]:
    """Return the command line of a module in this interpreter."""
    return [sys.executable, "-m", module, *map(str, arguments)]


def environment() -> dict[str, str]:
    """Return the environment of a stage: it finds the packages from any folder."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}
