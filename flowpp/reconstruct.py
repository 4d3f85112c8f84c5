"""python -m flowpp.reconstruct RUN [--count 16]: image -> z -> image, and its error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from tyro.conf import arg

from flowpp.config import checks
from flowpp.config.command_line import parse, user_errors, warn
from flowpp.evaluation.arguments import HeldOutImageArguments
from flowpp.evaluation.grids import save_arrays
from flowpp.evaluation.labelled_grids import Panel, save_labelled
from flowpp.runtime.standard_output import exit_on_broken_pipe

COUNT = 16
"""Number of images, unless fewer are held out."""


@dataclass(frozen=True)
class Arguments(HeldOutImageArguments):
    """Command-line arguments."""

    count: Annotated[
        int | None, arg(metavar="INT", help_behavior_hint="(default: 16, or all if fewer)")
    ] = None
    """Number of held-out images, from the first."""
    dtype: Literal["float32", "float64"] = "float32"
    """Floating-point type to compute in."""

    def __post_init__(self) -> None:
        """Validate the arguments."""
        super().__post_init__()
        checks.at_least("count", self.count, 1)


def main(argv: Sequence[str] | None = None) -> None:
    """Encode and decode held-out images, print the error and write both as a PNG and an npz."""
    with user_errors():
        arguments = parse(
            Arguments,
            argv,
            prog="python -m flowpp.reconstruct",
            description="Held-out images to z and back, with the reconstruction error.",
        )
        import numpy as np
        import torch  # takes seconds to import: not for --help

        from flowpp import trained_model
        from flowpp.evaluation.held_out import held_out_images
        from flowpp.evaluation.inverse_errors import inverse_errors
        from flowpp.kernels.backend import check_variable

        model = trained_model.load(
            arguments.run, device=arguments.device, checkpoint=arguments.checkpoint, warn=warn
        )
        check_variable(arguments.device)
        model.model.to(getattr(torch, arguments.dtype))
        held_out = held_out_images(arguments.run, model, arguments.data_path, warn)
        available = len(held_out.images)
        count = min(COUNT, available) if arguments.count is None else arguments.count
        if count > available:
            raise ValueError(f"count must be at most the {available} held-out images, got {count}")
        images, contexts = held_out.images[:count], held_out.contexts
        read = arguments.data_path or model.config.data.path
        out = arguments.output_file("reconstructed.png", read)
    context = None if contexts is None else contexts[:count]
    with inverse_errors():
        reconstructed, distance = model.round_trip(images, context, seed=arguments.seed)
    changed = int((reconstructed != images).sum())
    error = (
        f"distance in grey levels {np.median(distance):.1e} (median), {distance.max():.1e} "
        f"(largest); {changed} of {images.size} pixel values changed"
    )
    title = f"{arguments.run.resolve().name}, step {model.step}, {arguments.dtype}: {error}"
    labels = (held_out.name, "reconstructions from z")
    if arguments.plain:
        title, labels = "", ("", "")
    with user_errors():
        panels = [Panel(images, labels[0]), Panel(reconstructed, labels[1])]
        save_labelled(out, title, panels, model.levels)
        save_arrays(
            out.with_suffix(".npz"), images=images, reconstructed=reconstructed, distance=distance
        )
    print(
        f"{len(images)} {held_out.name}, {arguments.dtype}: {error}\n"
        f"images and their reconstructions side by side in {out}"
    )


if __name__ == "__main__":
    with exit_on_broken_pipe():
        main()
