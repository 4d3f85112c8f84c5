"""Command-line arguments shared by the commands that write images of a trained model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from flowpp.config import checks
from flowpp.evaluation.grids import output_path
from flowpp.runtime.files import check_can_be_written, make_writable_folder, unused_path

DataPath = Annotated[
    str | None,
    arg(name="data.path", metavar="PATH", help_behavior_hint="(default: as in training)"),
]
Channels = Annotated[
    Literal[1, 3] | None,
    arg(name="data.channels", help_behavior_hint="(default: as in training)"),
]


def check_csv(out: Path | None) -> None:
    """Require the name of a CSV file, if there is one.

    Raises:
        ValueError: another suffix, or a folder.
        OSError: its folder is not writable.
    """
    if out is not None and (out.suffix.lower() != ".csv" or out.is_dir()):
        raise ValueError(f"out must be a file that ends in .csv, got {out}")
    if out is not None:
        check_can_be_written(out)


def check_not_read(path: Path, read: Sequence[Path | str | None]) -> None:
    """Raise ValueError for a file to write that is one of those that are read."""
    for other in read:
        if other is not None and Path(other).expanduser().resolve() == path.resolve():
            raise ValueError(f"out must be another file than {path}, which is read")


def csv_file(
    out: Path | None,
    run: Path,
    folder: str,
    images: Path | None,
    tables: Sequence[Path | None] = (),
) -> Path:
    """Return the path of a CSV with a picture and a receipt beside it, and create its folder.

    Args:
        out: path asked for; None for a new file named like the images, with -2, -3 ... if there is
            one already, which may be about a folder of the same name or another checkpoint.
        run: run directory, or checkpoint file.
        folder: where the file lies by default, in the run directory or beside the checkpoint.
        images: images that the file is about; None for the held-out ones.
        tables: files that are read, such as one of labels; None for none.

    Raises:
        ValueError: a file among the images, one that is read, or the name of a folder.
        OSError: the folder cannot be created or written to.
    """
    beside = run if run.is_dir() else run.parent
    stem = "held-out" if images is None else images.resolve().name.split(".")[0] or "images"
    file = out or unused_path(beside / folder / f"{stem}.csv", ".png", ".json")
    in_run = out is None and run.is_dir()  # whose pictures are not read as images
    if images is not None and not in_run and file.resolve().is_relative_to(images.resolve()):
        raise ValueError(
            f"out must lie outside the images, {images}, got {file}: its picture would be one of "
            "them the next time"
        )
    for path in (file, file.with_suffix(".png"), file.with_suffix(".json")):
        if path.is_dir():
            raise ValueError(f"out must not name the folder {path}")
        check_not_read(path, tables)
    make_writable_folder(file.parent)
    return file


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

    def output_file(self, name: str, *read: Path | str | None) -> Path:
        """Return `out`, or `name` in RUN/samples, and check that its folder is writable.

        Args:
            name: File name by default.
            *read: Files that are read, which neither it nor the .npz beside it may be.

        Raises:
            OSError: The folder cannot be created or written to.
            ValueError: A file that is read.
        """
        out = output_path(self.out, self.run, "samples", name)
        for path in (out, out.with_suffix(".npz")):
            check_not_read(path, read)
        make_writable_folder(out.parent)
        return out


@dataclass(frozen=True)
class HeldOutImageArguments(ImageArguments):
    """Arguments of the commands that start from held-out images."""

    data_path: DataPath = None
    """Path of the data set, if it has moved since training."""
