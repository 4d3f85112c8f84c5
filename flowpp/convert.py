"""python -m flowpp.convert SOURCE --preset PRESET --out TARGET: released weights, to and fro."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import tyro

from flowpp.config import Config, DataConfig, ModelConfig, presets
from flowpp.config.checks import at_least
from flowpp.config.command_line import parse, user_errors
from flowpp.config.serialization import to_dict
from flowpp.data import npz
from flowpp.runtime.files import atomic_write, make_writable_folder

if TYPE_CHECKING:  # torch takes seconds to import: not for --help
    from flowpp.model import FlowPlusPlus


@dataclass(frozen=True)
class Arguments:
    """What to convert, and how the model is built."""

    source: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SOURCE")]
    """An .npz of the released code's variables; or our own run directory or .safetensors."""
    out: Path
    """From an .npz: a new run directory, which evaluate and sample open, or a .safetensors.
    From the others: an .npz. From a run directory a .safetensors, too: the averaged weights and
    their settings in one file, which `flowpp.load` opens anywhere."""
    model: ModelConfig
    data: DataConfig
    """What the run directory says about images: where evaluate finds them."""
    preset: str = "cifar10"
    image_size: int | None = None
    """Height and width, if not the preset's."""

    def __post_init__(self) -> None:
        """Refuse what is no size."""
        at_least("image_size", self.image_size, 1)


def main(argv: Sequence[str] | None = None) -> None:
    """Convert one file."""
    argv = list(sys.argv[1:] if argv is None else argv)
    with user_errors():
        preset = presets.get(_preset_in(argv))
        arguments = parse(
            Arguments,
            argv,
            prog="python -m flowpp.convert",
            description="Convert released variables to this library's weights, or back.",
            default=Arguments(
                tyro.MISSING, tyro.MISSING, preset.model, preset.data, preset.preset
            ),
        )
        convert(arguments)


def convert(arguments: Arguments) -> None:
    """Read the source into the preset's model, and write the model to the target.

    A run directory as the source brings its own settings; the preset's are for the other kinds.

    Raises:
        ValueError: a source and a target that are no pair, an unreadable source, or variables that
            do not belong to the model.
        OSError: a file that cannot be read or written.
    """
    source, out = arguments.source, arguments.out
    to_ours = source.suffix == ".npz" and out.suffix in ("", ".safetensors")
    to_released = (source.suffix == ".safetensors" or source.is_dir()) and out.suffix == ".npz"
    to_one_file = source.is_dir() and out.suffix == ".safetensors"
    if not (to_ours or to_released or to_one_file):
        raise ValueError(
            "convert needs an .npz to make a run directory or a .safetensors of, or one of these "
            "to make an .npz of, or a run directory to make a .safetensors of, "
            f"got {source} and {out}"
        )
    config = _config(arguments)
    make_writable_folder(out.parent)
    if to_one_file:
        model = _in_one_file(source, out, config)
    else:
        model = _import(source, out, config) if to_ours else _export(source, out, config)
    count = sum(p.numel() for p in model.parameters())
    print(f"{source} -> {out}: {count:,} parameters")


def _config(arguments: Arguments) -> Config:
    from flowpp.runs.run import Run

    if arguments.source.is_dir():
        return Run.open(arguments.source).config()
    size = arguments.image_size
    data = arguments.data if size is None else replace(arguments.data, size=size)
    return replace(presets.get(arguments.preset), model=arguments.model, data=data)


def _import(source: Path, out: Path, config: Config) -> FlowPlusPlus:
    """Released variables into a run directory, or into a file of weights."""
    from flowpp.data import declared_shape
    from flowpp.interop.released import load_released
    from flowpp.runs.checkpoint import Checkpoint
    from flowpp.runs.run import Run, check_new

    if not out.suffix:
        check_new(out)
    variables = read_variables(source)
    model = _model(config)
    load_released(model, variables)
    shape, levels = declared_shape(config.data)
    facts = _settings_inside(config, shape, levels)
    checkpoint = Checkpoint(0, model.state_dict(), {}, {}, facts)
    if out.suffix:
        checkpoint.save(out)
        return model
    make_writable_folder(out)
    Run.create(out, config, _environment(source, config)).save(checkpoint)
    return model


def _export(source: Path, out: Path, config: Config) -> FlowPlusPlus:
    """Averaged weights into a file of the released code's variables."""
    from flowpp.data import declared_shape
    from flowpp.interop.released import save_released
    from flowpp.runs.checkpoint import Checkpoint
    from flowpp.runs.restore import restored_model
    from flowpp.runs.run import Run

    found = Run(source).checkpoint() if source.is_dir() else Checkpoint.load(source)
    model = restored_model(found, config.model, *declared_shape(config.data))
    with atomic_write(out) as temporary, temporary.open("wb") as file:
        np.savez(file, **save_released(model))  # type: ignore[arg-type]
    return model


def _in_one_file(source: Path, out: Path, config: Config) -> FlowPlusPlus:
    """Averaged weights, with all that is needed to build their model and nothing of the run."""
    import flowpp
    from flowpp.runs.checkpoint import Checkpoint

    trained = flowpp.load(source)
    facts = _settings_inside(config, trained.image_shape, trained.levels)
    Checkpoint(trained.step, trained.model.state_dict(), {}, {}, facts).save(out)
    return trained.model


def _settings_inside(
    config: Config, shape: tuple[int, int, int], levels: int
) -> dict[str, object]:
    """What `flowpp.load` asks a file for; where the images lay is nobody else's business."""
    settings = to_dict(replace(config, data=replace(config.data, path=None)))
    return {"config": settings, "image_shape": list(shape), "levels": levels}


def _model(config: Config) -> FlowPlusPlus:
    from flowpp.config.build import build_model
    from flowpp.data import declared_shape

    return build_model(config.model, *declared_shape(config.data))


def _environment(source: Path, config: Config) -> dict[str, object]:
    """Where the weights came from; the images they were trained on left no hash."""
    return {
        "converted_from": {
            "file": source.name,
            "sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
        },
        "data": {"name": config.data.source, "sha256": None},
    }


def read_variables(path: Path) -> dict[str, np.ndarray]:
    """Variables of an .npz; in a file of recorded vectors, those under `w/`.

    Raises:
        ValueError: not a readable .npz.
    """
    try:
        there = npz.names(path)
        names = [n for n in there if n.startswith("w/")] or there
        return {name.removeprefix("w/"): array for name, array in npz.read(path, names).items()}
    except ValueError as error:
        raise ValueError(f"not a readable .npz of variables: {error}") from error


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
