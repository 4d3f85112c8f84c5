"""python -m flowpp.sample RUN [--count 64] [--temperature 1] [--out PNG]: draw images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from tyro.conf import arg

from flowpp.config import checks
from flowpp.config.command_line import parse, user_errors, warn
from flowpp.evaluation.arguments import ImageArguments
from flowpp.evaluation.grids import save_arrays
from flowpp.evaluation.labelled_grids import Panel, save_labelled
from flowpp.runtime.standard_output import exit_on_broken_pipe


@dataclass(frozen=True)
class Arguments(ImageArguments):
    """Command-line arguments."""

    count: int = 64
    """Number of images."""
    temperature: float = 1.0
    """Standard deviation of z; below 1, images are more likely and less varied."""
    batch_size: Annotated[
        int | None,
        arg(metavar="INT", help_behavior_hint="(default: 64; on a GPU what fits into its memory)"),
    ] = None
    """Number of images computed at once; they differ by rounding only."""

    def __post_init__(self) -> None:
        """Validate the arguments."""
        super().__post_init__()
        checks.at_least("count", self.count, 1)
        checks.at_least("batch_size", self.batch_size, 1)
        checks.within("temperature", self.temperature, 0, math.inf)


def main(argv: Sequence[str] | None = None) -> None:
    """Draw images from a trained model and write them as a PNG and an npz."""
    with user_errors():
        arguments = parse(
            Arguments,
            argv,
            prog="python -m flowpp.sample",
            description="Draw images from a trained model into one PNG and one npz.",
        )
        from flowpp import trained_model  # imports torch
        from flowpp.kernels.backend import check_variable
        from flowpp.runtime.image_tensors import NonFiniteImageError

        model = trained_model.load(
            arguments.run, device=arguments.device, checkpoint=arguments.checkpoint, warn=warn
        )
        check_variable(arguments.device)
        out = arguments.output_file(_default_name(arguments))
    try:
        images = model.sample(
            arguments.count,
            temperature=arguments.temperature,
            seed=arguments.seed,
            batch_size=arguments.batch_size,
        )
    except NonFiniteImageError as error:
        raise SystemExit(f"error: {error}") from None
    with user_errors():
        title = "" if arguments.plain else _title(arguments, model.step)
        save_labelled(out, title, [Panel(images)], model.levels)
        save_arrays(
            out.with_suffix(".npz"),
            images=images,
            levels=model.levels,
            seed=arguments.seed,
            temperature=arguments.temperature,
        )
    print(f"{_number(arguments)} in {out} and {out.with_suffix('.npz').name}")


def _title(arguments: Arguments, step: int) -> str:
    return (
        f"{_number(arguments)} of {arguments.run.resolve().name}, step {step}, "
        f"temperature {arguments.temperature:g}, seed {arguments.seed}"
    )


def _number(arguments: Arguments) -> str:
    return "1 sample" if arguments.count == 1 else f"{arguments.count} samples"


def _default_name(arguments: Arguments) -> str:
    temperature = arguments.temperature
    suffix = "" if temperature == 1 else f"-temperature-{temperature:g}"
    return f"seed-{arguments.seed}{suffix}.png"


if __name__ == "__main__":
    with exit_on_broken_pipe():
        main()
