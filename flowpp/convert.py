"""python -m flowpp.convert SOURCE --preset PRESET --out TARGET: released weights, to and fro."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from flowpp import presets
from flowpp.command_line import mistakes_in_one_line, parse
from flowpp.config import ModelConfig


@dataclass(frozen=True)
class Arguments:
    """What to convert, and how the model is built."""

    source: Annotated[Path, tyro.conf.Positional]
    """Either an .npz of the released code's variables, or a .safetensors of this library."""
    out: Path
    """What to write: .safetensors from .npz, .npz from .safetensors."""
    model: ModelConfig
    preset: str = "cifar10"
    image_size: int | None = None
    """Height and width, if not the preset's."""


def main(argv: Sequence[str] | None = None) -> None:
    """Convert one file."""
    argv = list(sys.argv[1:] if argv is None else argv)
    with mistakes_in_one_line():
        preset = presets.get(_preset_in(argv))
        arguments = parse(
            Arguments,
            argv,
            prog="python -m flowpp.convert",
            description="Convert released variables to this library's weights, or back.",
            default=Arguments(Path(), Path(), preset.model, preset.preset),
        )
        convert(arguments)


def convert(arguments: Arguments) -> None:
    """Read the source into the preset's model, and write the model to the target.

    Raises:
        ValueError: suffixes that are no pair of .npz and .safetensors, an unreadable source, or
            variables that do not belong to the model.
        OSError: a file that cannot be read or written.
    """
    from flowpp.checkpoint import Checkpoint
    from flowpp.data import declared_shape
    from flowpp.files import replaced
    from flowpp.model import build_model
    from flowpp.released import load_released, save_released

    kinds = (arguments.source.suffix, arguments.out.suffix)
    if kinds not in ((".npz", ".safetensors"), (".safetensors", ".npz")):
        raise ValueError(
            "convert needs an .npz and a .safetensors, in either order, "
            f"got {arguments.source} and {arguments.out}"
        )
    preset = presets.get(arguments.preset)
    shape, levels = declared_shape(preset.data)
    if arguments.image_size is not None:
        shape = (shape[0], arguments.image_size, arguments.image_size)
    model = build_model(arguments.model, shape, levels)
    if arguments.source.suffix == ".npz":
        load_released(model, read_variables(arguments.source))
        Checkpoint(0, model.state_dict(), {}).save(arguments.out)
    else:
        Checkpoint.load(arguments.source).restore(model, average=True)
        with replaced(arguments.out) as temporary, temporary.open("wb") as file:
            np.savez(file, **save_released(model))  # type: ignore[arg-type]
    count = sum(p.numel() for p in model.parameters())
    print(f"{arguments.source} -> {arguments.out}: {count:,} parameters")


def read_variables(path: Path) -> dict[str, np.ndarray]:
    """Variables of an .npz; in a file of recorded vectors, those under `w/`.

    Raises:
        ValueError: not a readable .npz.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            names = [n for n in file.files if n.startswith("w/")] or file.files
            return {name.removeprefix("w/"): file[name] for name in names}
    except (ValueError, EOFError, zipfile.BadZipFile, KeyError) as error:
        raise ValueError(f"{path} is not a readable .npz of variables: {error}") from error


def _preset_in(argv: Sequence[str]) -> str:
    """The preset named among the arguments: its settings are the defaults of all the others."""
    for i, argument in enumerate(argv):
        if argument == "--preset" and i + 1 < len(argv):
            return argv[i + 1]
        if argument.startswith("--preset="):
            return argument.partition("=")[2]
    return "cifar10"


if __name__ == "__main__":
    main()
