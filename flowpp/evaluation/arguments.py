"""Command-line arguments shared by the commands that write images of a trained model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from flowpp.config import checks
from flowpp.evaluation.grids import output_path
from flowpp.runtime.files import make_writable_folder

DataPath = Annotated[
    str | None,
    arg(name="data.path", metavar="PATH", help_behavior_hint="(default: as in training)"),
]
Channels = Annotated[
    Literal[1, 3] | None,
    arg(name="data.channels", help_behavior_hint="(default: as in training)"),
]


@dataclass(frozen=True)
class ImageArguments:
    """Arguments of sample, reconstruct and interpolate."""

    run: Annotated[Positional[Path], arg(metavar="RUN")]
    """Run directory, checkpoint file, or name of a pretrained model."""
    out: Annotated[
        Path | None, arg(metavar="PNG", help_behavior_hint="(default: a file in RUN/samples)")
    ] = None
    """File to write, by default beside a checkpoint file, or in the current folder for a
    pretrained model; the images are also written as .npz beside it."""
    plain: bool = False
    """Write the images alone, without title and labels."""
    checkpoint: Literal["newest", "best"] = "newest"
    """Checkpoint of a run directory: the newest, or the best on held-out images."""
    device: str = "auto"
    """Device to compute on, such as cpu, cuda or cuda:1; auto takes a GPU if there is one."""
    seed: int = 0
    """Seed of the random noise."""

    def __post_init__(self) -> None:
        """Validate the seed and the output path."""
        checks.seed("seed", self.seed)
        output_path(self.out)

    def output_file(self, name: str) -> Path:
        """Return `out`, or `name` in RUN/samples, and check that its folder is writable.

        Raises:
            OSError: The folder cannot be created or written to.
        """
        out = output_path(self.out, self.run, "samples", name)
        make_writable_folder(out.parent)
        return out


@dataclass(frozen=True)
class HeldOutImageArguments(ImageArguments):
    """Arguments of the commands that start from held-out images."""

    data_path: DataPath = None
    """Path of the data set, if it has moved since training."""
