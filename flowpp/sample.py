"""python -m flowpp.sample RUN [--count 64] [--temperature 1] [--seed 0] [--out PNG]"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from flowpp.config import checks
from flowpp.config.command_line import parse, user_errors, warn
from flowpp.evaluation.images import output_path, save_arrays, save_grid
from flowpp.runtime.files import make_writable_folder


@dataclass(frozen=True)
class Arguments:
    """What can be said on the command line."""

    run: Annotated[Positional[Path], arg(metavar="RUN")]
    """The run directory, or a checkpoint."""
    count: int = 64
    temperature: float = 1.0
    """Standard deviation of z; below 1 for likelier and less varied images."""
    seed: int = 0
    out: Path | None = None
    """The picture, and beside it the same images as .npz; RUN/samples/seed-SEED.png if not
    given."""
    checkpoint: Literal["newest", "best"] = "newest"
    device: str = "cpu"

    def __post_init__(self) -> None:
        """Refuse what cannot be drawn or written."""
        checks.at_least("count", self.count, 1)
        checks.seed("seed", self.seed)
        checks.within("temperature", self.temperature, 0, math.inf)
        output_path(self.out)


def main(argv: Sequence[str] | None = None) -> None:
    """Draw images from a trained model, with its averaged weights, into a PNG and an npz."""
    with user_errors():
        arguments = parse(
            Arguments,
            argv,
            prog="python -m flowpp.sample",
            description="Draw images from a trained model into one PNG and one npz.",
        )
        from flowpp import trained_model
        from flowpp.evaluation import sampling  # after parsing: torch takes seconds

        model = trained_model.load(
            arguments.run, device=arguments.device, which=arguments.checkpoint, warn=warn
        )
        heat = "" if arguments.temperature == 1 else f"-temperature-{arguments.temperature:g}"
        out = output_path(
            arguments.out, arguments.run, "samples", f"seed-{arguments.seed}{heat}.png"
        )
        make_writable_folder(out.parent)
    try:
        drawn = model.sample(
            arguments.count, temperature=arguments.temperature, seed=arguments.seed
        )
    except sampling.NonFiniteSampleError as error:
        raise SystemExit(f"error: {error}") from None
    with user_errors():
        save_grid(out, drawn, model.levels)
        save_arrays(
            out.with_suffix(".npz"),
            images=drawn,
            levels=model.levels,
            seed=arguments.seed,
            temperature=arguments.temperature,
        )
    print(f"{arguments.count} samples in {out} and {out.with_suffix('.npz').name}")


if __name__ == "__main__":
    main()
