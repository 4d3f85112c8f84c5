"""python -m flowpp.decompress FILE.fpp --out FOLDER: decode compressed images."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from flowpp.config.command_line import parse, user_errors, warn
from flowpp.data.formats import count_of
from flowpp.runtime.files import atomic_write, make_writable_folder
from flowpp.runtime.standard_output import exit_on_broken_pipe

if TYPE_CHECKING:  # importing torch takes seconds: not for --help
    import numpy as np

    from flowpp.coding.container import Container, Header
    from flowpp.runs.open_model import OpenedModel


@dataclass(frozen=True)
class Arguments:
    """Command-line arguments."""

    file: Annotated[Positional[Path], arg(metavar="FILE")]
    """File that flowpp.compress has written."""
    out: Annotated[Path, arg(metavar="FOLDER")]
    """Folder for the images, PNG or NPY; existing files are not overwritten."""
    run: Annotated[
        Path | None, arg(metavar="RUN", help_behavior_hint="(default: as when compressing)")
    ] = None
    """Run directory, checkpoint file, or name of the pretrained model that compressed the file."""
    salvage: bool = False
    """Write the intact images of a damaged file, instead of refusing it."""


def main(argv: Sequence[str] | None = None) -> None:
    """Decode the images and write those whose checksums are right."""
    with user_errors():
        arguments = parse(
            Arguments,
            argv,
            prog="python -m flowpp.decompress",
            description="Decode images that flowpp.compress has written.",
        )
        from flowpp.coding.container import Container, ContainerError
        from flowpp.coding.stack import require_constriction

        try:
            require_constriction()
        except ModuleNotFoundError as error:
            raise ValueError(str(error)) from error
        container = Container.load(arguments.file)
        if not container.intact and not arguments.salvage:
            raise ContainerError(
                f"{arguments.file} is damaged: its SHA-256 is wrong; --salvage writes the images "
                "whose own checksums are right"
            )
        _check_free(arguments.out, container)
        written = _write(arguments, container)
    print(f"{count_of(written, 'image')} in {arguments.out}")


def _check_free(folder: Path, container: Container) -> None:
    make_writable_folder(folder)
    for name in container.header.names:
        if (folder / name).exists():
            raise ValueError(f"out must not have the file {name} already, got {folder}")


def _write(arguments: Arguments, container: Container) -> int:
    """Write the images; return their number.

    Raises:
        ContainerError: see `decompress`; images before the damage are written.
    """
    from flowpp.coding.compression import decompress
    from flowpp.coding.container import ContainerError
    from flowpp.config.serialization import to_dict
    from flowpp.evaluation.progress import progress_bar

    header = container.header
    if arguments.run is None and not header.run:
        raise ValueError(f"--run must name the model: {arguments.file} does not say where it is")
    opened = _opened(arguments.run or Path(header.run), header)
    written = 0
    try:
        with progress_bar(len(header.names), silent=False) as advance:
            for place, image in decompress(container, opened.model, to_dict(opened.config.model)):
                _save(arguments.out / header.names[place], image, header.levels)
                written += 1
                advance(1)
    except ContainerError as error:
        if not written:
            raise
        kept = f"{count_of(written, 'intact image')} in {arguments.out}"
        raise ContainerError(f"{error}; {kept}") from error
    return written


def _opened(path: Path, header: Header) -> OpenedModel:
    """Open the model of a file; of a run, the newest checkpoint that it was written with.

    A run may have been trained further since, or the file is of its best checkpoint. Without any
    that fits, the newest is returned, which `decompress` refuses.
    """
    from flowpp.coding.arithmetic import model_hash
    from flowpp.config.serialization import to_dict
    from flowpp.runs.checkpoint import CheckpointError
    from flowpp.runs.open_model import open_model
    from flowpp.runs.pretrained import find_model
    from flowpp.runs.run import Run

    def fits(opened: OpenedModel) -> bool:
        return model_hash(opened.model, to_dict(opened.config.model)) == header.model

    newest = open_model(path, warn=warn)
    found = find_model(path, lambda line: None)
    if fits(newest) or not found.is_dir():
        return newest
    run = Run.open(found)
    for file in (*reversed(run.checkpoint_files()), run.best_path):
        try:
            opened = open_model(file, config=newest.config)
        except (FileNotFoundError, CheckpointError):
            continue
        if fits(opened):
            return opened
    return newest


def _save(path: Path, image: np.ndarray, levels: int) -> None:
    """Write an image `(C, H, W)`."""
    import numpy as np
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary:
        if path.suffix == ".png":
            pixels = image.astype(np.uint8)
            picture = pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)
            Image.fromarray(np.ascontiguousarray(picture)).save(temporary, format="PNG")
        else:
            # NumPy's own error of a full disk says neither which file nor why.
            content = io.BytesIO()
            np.save(content, image.astype(np.uint8 if levels <= 256 else np.uint16))
            temporary.write_bytes(content.getvalue())


if __name__ == "__main__":
    with exit_on_broken_pipe():
        main()
