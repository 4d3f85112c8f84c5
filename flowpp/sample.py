"""python -m flowpp.sample RUN [--count 64] [--label NAME] [--out PNG]: draw images."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import arg

from flowpp.config import checks
from flowpp.config.command_line import parse, user_errors, warn
from flowpp.evaluation.arguments import ImageArguments
from flowpp.evaluation.grids import save_arrays
from flowpp.evaluation.labelled_grids import save_labelled
from flowpp.runtime.standard_output import exit_on_broken_pipe

if TYPE_CHECKING:  # importing torch takes seconds: not for --help
    from flowpp.evaluation.conditional_samples import Wanted


@dataclass(frozen=True)
class Arguments(ImageArguments):
    """Command-line arguments."""

    count: Annotated[
        int | None,
        arg(metavar="INT", help_behavior_hint="(default: 64; for each of several contexts 8)"),
    ] = None
    """Number of images; with labels or contexts, for each of them."""
    label: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="(default: all)")] = None
    """Class to sample, for a model with labels; all for a row of each, none for no class."""
    context: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="(default: none)")] = (
        None
    )
    """Contexts, for a model of vectors or images: an .npy or a text with a vector a line, or an
    image or a folder of images."""
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
        from flowpp.evaluation.conditional_samples import wanted
        from flowpp.evaluation.given_contexts import check_none_is_trained
        from flowpp.evaluation.inverse_errors import inverse_errors
        from flowpp.kernels.backend import check_variable

        model = trained_model.load(
            arguments.run, device=arguments.device, checkpoint=arguments.checkpoint, warn=warn
        )
        check_variable(arguments.device)
        asked = wanted(
            model.context_spec, arguments.count, arguments.label, arguments.context,
            model.config.data, model.levels,
        )  # fmt: skip
        dropout = model.config.training.label_dropout
        check_none_is_trained(asked.contexts, model.context_spec, dropout)
        out = arguments.output_file(_default_name(arguments), arguments.context)
    with inverse_errors():
        images = model.sample(
            asked.count,
            asked.contexts,
            temperature=arguments.temperature,
            seed=arguments.seed,
            batch_size=arguments.batch_size,
        )
    with user_errors():
        panel, title = asked.panel(images, model.levels), _title(arguments, asked, model.step)
        if arguments.plain:
            panel, title = replace(panel, rows_named=(), columns_named=()), ""
        save_labelled(out, title, [panel], model.levels)
        save_arrays(
            out.with_suffix(".npz"),
            images=images,
            levels=model.levels,
            seed=arguments.seed,
            temperature=arguments.temperature,
            **({} if asked.contexts is None else {"contexts": asked.contexts}),
        )
    print(f"{_number(asked)} in {out} and {out.with_suffix('.npz').name}")


def _title(arguments: Arguments, asked: Wanted, step: int) -> str:
    return (
        f"{_number(asked)} of {arguments.run.resolve().name}, step {step}, "
        f"temperature {arguments.temperature:g}, seed {arguments.seed}"
    )


def _number(asked: Wanted) -> str:
    if asked.given is not None and len(asked.given) > 1:
        number = f"{asked.each} samples" if asked.each > 1 else "1 sample"
        return f"{number} {asked.title}"
    number = "1 sample" if asked.count == 1 else f"{asked.count} samples"
    return f"{number} {asked.title}".rstrip()


def _default_name(arguments: Arguments) -> str:
    temperature, label = arguments.temperature, arguments.label
    suffix = "" if temperature == 1 else f"-temperature-{temperature:g}"
    suffix += f"-label-{_file_name(label)}" if label is not None else ""
    suffix += f"-context-{_file_name(arguments.context.stem)}" if arguments.context else ""
    return f"seed-{arguments.seed}{suffix}.png"


def _file_name(text: str) -> str:
    """Return a text with letters, digits, dots and hyphens only."""
    return re.sub(r"[^\w.-]+", "-", text)


if __name__ == "__main__":
    with exit_on_broken_pipe():
        main()
