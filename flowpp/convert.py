"""python -m flowpp.convert SOURCE --preset PRESET --out TARGET: convert released weights."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import tyro

from flowpp.config import Config, ContextSpec, DataConfig, ModelConfig, presets
from flowpp.config.checks import at_least
from flowpp.config.command_line import parse, user_errors
from flowpp.runtime.files import atomic_write, make_writable_folder
from flowpp.runtime.standard_output import exit_on_broken_pipe

if TYPE_CHECKING:  # importing torch takes seconds: not for --help
    from flowpp.model import FlowPlusPlus


Which = Literal["newest", "best"]


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
    """Data set to record in a new run directory, for evaluate; with --pretrained only `path`."""
    preset: str = "cifar10"
    """Preset that the other settings are taken from; not used for a run directory."""
    image_size: Annotated[
        int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="(default: the preset's)")
    ] = None
    """Height and width of the images."""
    checkpoint: Which = "newest"
    """Checkpoint of a run directory: the newest, or the best on held-out images."""
    pretrained: Annotated[
        str | None, tyro.conf.arg(metavar="NAME", help_behavior_hint="(default: none)")
    ] = None
    """From a run directory to a .safetensors: round the networks' weights to bfloat16, evaluate
    them on the held-out images, and record the result in the file with this name."""
    importance_samples: int = 1
    """With --pretrained: draws per image for the importance-weighted bound."""

    def __post_init__(self) -> None:
        """Validate the numbers."""
        at_least("image_size", self.image_size, 1)
        at_least("importance_samples", self.importance_samples, 1)


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
    if arguments.pretrained is not None:
        model = _pretrain(arguments, arguments.pretrained)
    elif source.suffix == ".npz" and out.suffix in ("", ".safetensors"):
        model = _import(source, out, _config(arguments))
    elif (is_run or source.suffix == ".safetensors") and out.suffix == ".npz":
        config = None if is_run else _config(arguments)
        model = _export(source, out, config, arguments.checkpoint)
    elif is_run and out.suffix == ".safetensors":
        model = _extract(source, out, arguments.checkpoint)
    else:
        missing = "" if source.exists() else f"; there is nothing at {source}"
        raise ValueError(
            "convert must go from an .npz to a run directory or .safetensors, from a run "
            "directory or .safetensors to an .npz, or from a run directory to a .safetensors, "
            f"got {source} and {out}{missing}"
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


def _export(source: Path, out: Path, config: Config | None, which: Which) -> FlowPlusPlus:
    """Write averaged weights as an .npz of the released code's variables."""
    from flowpp.interop.released import released_variables
    from flowpp.runs.open_model import open_model

    make_writable_folder(out.parent)
    model = open_model(source, which=which, config=config).model
    with atomic_write(out) as temporary, temporary.open("wb") as file:
        np.savez(file, **released_variables(model))  # type: ignore[arg-type]
    return model


def _extract(source: Path, out: Path, which: Which) -> FlowPlusPlus:
    """Write a run's averaged weights, settings and hash of the data to one file."""
    from flowpp.config.command_line import warn
    from flowpp.runs.checkpoint import Checkpoint
    from flowpp.runs.open_model import open_model

    make_writable_folder(out.parent)
    opened = open_model(source, which=which, warn=warn)
    checkpoint, model = opened.checkpoint, opened.model
    facts = {
        **_facts(opened.config, opened.image_shape, model.levels, model.context_spec),
        "data_sha256": checkpoint.facts.get("data_sha256"),
        "weights": "moving average" if checkpoint.ema else "raw",
    }
    Checkpoint(checkpoint.step, model.state_dict(), {}, {}, facts).save(out)
    return model


def _pretrain(arguments: Arguments, name: str) -> FlowPlusPlus:
    """Write a run's rounded weights with a receipt, unless the file already has them."""
    from flowpp.evaluation.pretrained import is_same, pretrained_checkpoint
    from flowpp.runs.checkpoint import Checkpoint, CheckpointError
    from flowpp.runs.open_model import open_model

    source, out = arguments.source, arguments.out
    if not source.is_dir() or out.suffix != ".safetensors":
        raise ValueError(
            f"pretrained must go from a run directory to a .safetensors, got {source} and {out}"
        )
    make_writable_folder(out.parent)
    made = pretrained_checkpoint(
        source, name, data_path=arguments.data.path, which=arguments.checkpoint,
        samples=arguments.importance_samples,
    )  # fmt: skip
    try:
        unchanged = out.is_file() and is_same(Checkpoint.load(out), made)
    except CheckpointError:
        unchanged = False
    if not unchanged:
        made.save(out)
    receipt = made.facts["receipt"]
    for bound in receipt["bounds"]:
        print(f"{bound['importance_samples']:>5} samples: {bound['mean']:.4f} +- "
              f"{bound['standard_error']:.4f} bits/dim of {bound['count']} images")  # fmt: skip
    print(f"    1 sample before rounding: {receipt['before_rounding']:.4f}")
    print(f"{out.stat().st_size:,} bytes{', unchanged' if unchanged else ''}")
    return open_model(out).model


def _facts(
    config: Config, shape: tuple[int, int, int], levels: int, context: ContextSpec | None = None
) -> dict[str, object]:
    """Return what `flowpp.load` needs in a checkpoint file; the local data path is left out."""
    from flowpp.runs.open_model import model_facts

    config = replace(config, data=replace(config.data, path=None))
    return model_facts(config, shape, levels, context)


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
