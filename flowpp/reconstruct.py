"""python -m flowpp.reconstruct RUN [--count 16]: image -> z -> image, and its error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from flowpp.config import checks
from flowpp.config.command_line import parse, user_errors, warn
from flowpp.evaluation.arguments import HeldOutImageArguments
from flowpp.evaluation.grids import save_arrays, save_grid
from flowpp.runtime.standard_output import exit_on_broken_pipe


@dataclass(frozen=True)
class Arguments(HeldOutImageArguments):
    """Command-line arguments."""

    count: int = 16
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
        from flowpp.kernels.backend import check_variable
        from flowpp.runs.open_model import load_images

        model = trained_model.load(
            arguments.run, device=arguments.device, checkpoint=arguments.checkpoint, warn=warn
        )
        check_variable(arguments.device)
        model.model.to(getattr(torch, arguments.dtype))
        held_out = load_images(model.config, arguments.data_path).test
        if arguments.count > len(held_out):
            raise ValueError(
                f"count must be at most the {len(held_out)} held-out images, got {arguments.count}"
            )
        images = held_out[: arguments.count]
        out = arguments.output_file("reconstructed.png")
    reconstructed, distance = model.round_trip(images, seed=arguments.seed)
    pairs = np.stack([images, reconstructed], axis=1).reshape(-1, *images.shape[1:])
    with user_errors():
        save_grid(out, pairs, model.levels, columns=_columns(len(images)))
        save_arrays(
            out.with_suffix(".npz"), images=images, reconstructed=reconstructed, distance=distance
        )
    changed = int((reconstructed != images).sum())
    print(
        f"{len(images)} held-out images, {arguments.dtype}: distance in grey levels "
        f"{np.median(distance):.1e} (median), {distance.max():.1e} (largest); "
        f"{changed} of {images.size} pixel values changed\n"
        f"pairs of an image and its reconstruction in {out}"
    )


def _columns(pairs: int) -> int:
    """Return an even number of columns, so that both images of a pair are in the same row."""
    return 2 * max(1, round((pairs / 2) ** 0.5))


if __name__ == "__main__":
    with exit_on_broken_pipe():
        main()
