"""python -m flowpp.train [PRESET] [--out DIR] [--training.steps 100] [--model.flow.filters 8]"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flowpp import presets
from flowpp.command_line import mistakes_in_one_line, parse
from flowpp.config import Config, DataConfig, ModelConfig, TrainingConfig
from flowpp.files import writable_folder


@dataclass(frozen=True)
class Arguments:
    """What can be changed on the command line."""

    model: ModelConfig
    data: DataConfig
    training: TrainingConfig
    out: Path | None = None
    """The run directory, new or empty; runs/PRESET-DATE-TIME if not given."""


def read_arguments(argv: Sequence[str]) -> tuple[Config, Path | None]:
    """Settings and run directory: a preset, and what the flags change in it.

    Raises:
        ValueError: unknown preset, or a value out of range.
        SystemExit: unknown flag, or help was asked for.
    """
    named = argv and not argv[0].startswith("-")
    preset = presets.get(argv[0] if named else "digits")
    width = max(map(len, presets.PRESETS))
    choices = "\n".join(f"  {name:{width}} {c.description}" for name, c in presets.PRESETS.items())
    arguments = parse(
        Arguments,
        argv[1:] if named else argv,
        prog="python -m flowpp.train [PRESET]",
        description="Train a Flow++ model and leave a run directory behind.\n\n"
        f"PRESET is the first argument (digits if there is none):\n{choices}\n\n"
        f"The defaults below are those of {preset.preset}.",
        default=Arguments(preset.model, preset.data, preset.training),
    )
    config = dataclasses.replace(
        preset, model=arguments.model, data=arguments.data, training=arguments.training
    )
    return config, arguments.out


def main(argv: Sequence[str] | None = None) -> None:
    """Train, then say what came out."""
    with mistakes_in_one_line():
        config, out = read_arguments(sys.argv[1:] if argv is None else argv)
        from flowpp import (
            runs,
            sampling,
            training,
        )  # torch takes seconds to import: not for --help

        out = out or runs.default_out(config.preset)
        runs.check_new(out)
        prepared = training.prepare(config)
        writable_folder(out)
    try:
        result = training.train(config, out, prepared)
    except (training.NonFiniteError, sampling.NonFiniteSampleError) as error:
        raise SystemExit(f"error: {error}") from None
    name = prepared[0].name
    print(
        f"\nheld-out bits/dim on {name}, one-sample bound, {len(prepared[0].test)} images\n"
        f"  this model            {result.bits_per_dim:.4f} +- {result.standard_error:.4f}\n"
        f"  independent pixels    {result.histogram:.4f}\n"
        f"  uniform               {result.uniform:.4f}\n"
        f"{result.steps} steps in {result.seconds:.0f} s\n"
        f"samples   {result.samples}\n"
        f"next      python -m flowpp.evaluate {out} --importance-samples 64"
    )


if __name__ == "__main__":
    main()
