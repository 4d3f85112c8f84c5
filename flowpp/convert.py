"""python -m flowpp.convert SOURCE --preset PRESET --out TARGET: convert released weights."""

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
from flowpp.runtime.files import atomic_write, make_writable_folder
from flowpp.runtime.standard_output import exit_on_broken_pipe

if TYPE_CHECKING:  # importing torch takes seconds: not for --help
    from flowpp.model import FlowPlusPlus


@dataclass(frozen=True)
class Arguments:
    """Command-line arguments."""

    source: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SOURCE")]
    """An .npz of the released code's variables, a run directory, or a .safetensors checkpoint."""
    out: Path
    """From an .npz: a new run directory for evaluate and sample, or a .safetensors. From a run
    directory or .safetensors: an .npz. From a run directory also a .safetensors: the averaged
    weights and their settings in one file, which `flowpp.load` opens."""
    model: ModelConfig
    data: DataConfig
    """Data set to record in a new run directory, for evaluate."""
    preset: str = "cifar10"
    """Preset that the other settings are taken from; not used for a run directory."""
    image_size: Annotated[
        int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="(default: the preset's)")
    ] = None
    """Height and width of the images."""

    def __post_init__(self) -> None:
        """Validate the image size."""
        at_least("image_size", self.image_size, 1)


def main(argv: Sequence[str] | None = None) -> None:
    """Convert one file."""
    argv = list(sys.argv[1:] if argv is None else argv)
    with user_errors():
        preset = presets.get(_requested_preset(argv))
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
    """Convert between released variables, a run directory and a checkpoint file.

    A run directory as the source has its own settings; the preset applies to other sources.

    Raises:
        ValueError: source and target are not one of the supported pairs, the source is not
            readable, or its variables do not belong to the model.
        OSError: a file cannot be read or written.
    """
    source, out = arguments.source, arguments.out
    is_run = source.is_dir()
    if source.suffix == ".npz" and out.suffix in ("", ".safetensors"):
        model = _import(source, out, _config(arguments))
    elif (is_run or source.suffix == ".safetensors") and out.suffix == ".npz":
        model = _export(source, out, None if is_run else _config(arguments))
    elif is_run and out.suffix == ".safetensors":
        model = _extract(source, out)
    else:
        raise ValueError(
            "convert must go from an .npz to a run directory or .safetensors, from a run "
            "directory or .safetensors to an .npz, or from a run directory to a .safetensors, "
            f"got {source} and {out}"
        )
    count = sum(p.numel() for p in model.parameters())
    print(f"{source} -> {out}: {count:,} parameters")


def _config(arguments: Arguments) -> Config:
    size = arguments.image_size
    data = arguments.data if size is None else replace(arguments.data, size=size)
    return replace(presets.get(arguments.preset), model=arguments.model, data=data)


def _import(source: Path, out: Path, config: Config) -> FlowPlusPlus:
    """Write released variables as a run directory or a checkpoint file."""
    from flowpp.config.build import build_model
    from flowpp.data import declared_shape
    from flowpp.interop.released import copy_released, read_variables
    from flowpp.runs.checkpoint import Checkpoint
    from flowpp.runs.run import Run, check_new

    make_writable_folder(out.parent)
    if not out.suffix:
        check_new(out)
    variables = read_variables(source)
    shape, levels = declared_shape(config.data)
    model = build_model(config.model, shape, levels)
    copy_released(model, variables)
    checkpoint = Checkpoint(0, model.state_dict(), {}, {}, _facts(config, shape, levels))
    if out.suffix:
        checkpoint.save(out)
        return model
    make_writable_folder(out)
    Run.create(out, config, _environment(source, config)).save(checkpoint)
    return model


def _export(source: Path, out: Path, config: Config | None) -> FlowPlusPlus:
    """Write averaged weights as an .npz of the released code's variables."""
    from flowpp.interop.released import released_variables
    from flowpp.runs.open_model import open_model

    make_writable_folder(out.parent)
    model = open_model(source, config=config).model
    with atomic_write(out) as temporary, temporary.open("wb") as file:
        np.savez(file, **released_variables(model))  # type: ignore[arg-type]
    return model


def _extract(source: Path, out: Path) -> FlowPlusPlus:
    """Write a run's averaged weights and settings, and nothing else of it, to one file."""
    from flowpp.runs.checkpoint import Checkpoint
    from flowpp.trained_model import load

    make_writable_folder(out.parent)
    trained = load(source)
    facts = _facts(trained.config, trained.image_shape, trained.levels)
    Checkpoint(trained.step, trained.model.state_dict(), {}, {}, facts).save(out)
    return trained.model


def _facts(config: Config, shape: tuple[int, int, int], levels: int) -> dict[str, object]:
    """Return what `flowpp.load` needs in a checkpoint file; the local data path is left out."""
    from flowpp.runs.open_model import model_facts

    return model_facts(replace(config, data=replace(config.data, path=None)), shape, levels)


def _environment(source: Path, config: Config) -> dict[str, object]:
    """Return an environment.json; the hash of the training images is not known."""
    return {
        "converted_from": {
            "file": source.name,
            "sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
        },
        "data": {"name": config.data.source, "sha256": None},
    }


def _requested_preset(argv: Sequence[str]) -> str:
    """Return the value of --preset, whose settings are the defaults of the other arguments."""
    for i, argument in enumerate(argv):
        if argument == "--preset" and i + 1 < len(argv):
            return argv[i + 1]
        if argument.startswith("--preset="):
            return argument.partition("=")[2]
    return "cifar10"


if __name__ == "__main__":
    with exit_on_broken_pipe():
        main()
