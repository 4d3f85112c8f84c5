"""Request to a measuring process, and its command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from .plan import Plan, python

MODULE = "flowpp.benchmark.gpu_check.measure"


@dataclass(frozen=True)
class Request:
    """Plain values that a measuring process needs.

    Args:
        folder: Folder of the stage.
        run: Run directory of the training stage.
        device: Device, as torch names it.
        preset: Preset of the model.
        data: An `.npz` of training images, or None for images that come with the library.
        tiny: Whether to measure as little as possible.
        seconds: Time that the stage has.
    """

    folder: str
    run: str
    device: str
    preset: str
    data: str | None
    tiny: bool
    seconds: float


def command(name: str) -> Callable[[Plan, Path, float], list[str]]:
    """Return a stage's command that carries out the measurement of this name."""

    def build(plan: Plan, folder: Path, seconds: float) -> list[str]:
        request = Request(
            str(folder),
            str(plan.run),
            plan.device,
            plan.preset,
            None if plan.data is None else str(plan.data),
            plan.tiny,
            seconds,
        )
        return python(MODULE, name, json.dumps(asdict(request)))

    return build
