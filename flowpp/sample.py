"""python -m flowpp.sample RUN [--count 64] [--seed 0] [--out PNG]"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from flowpp.command_line import mistakes_in_one_line, parse


@dataclass(frozen=True)
class Arguments:
    """What can be said on the command line."""

    run: Annotated[Positional[Path], arg(metavar="RUN")]
    """The run directory."""
    count: int = 64
    seed: int = 0
    out: Path | None = None
    """The picture; RUN/samples/seed-SEED.png if not given."""
    device: str = "cpu"

    def __post_init__(self) -> None:
        """Refuse what cannot be drawn or written."""
        if self.count < 1:
            raise ValueError(f"count must be at least 1, got {self.count}")
        if self.out is not None and self.out.suffix.lower() != ".png":
            raise ValueError(f"out must end in .png, got {self.out}")
        if self.out is not None and not self.out.parent.is_dir():
            raise ValueError(f"out must lie in an existing folder, got {self.out}")


def main(argv: Sequence[str] | None = None) -> None:
    """Draw images from a trained model, with its averaged weights, into one PNG."""
    with mistakes_in_one_line():
        arguments = parse(
            Arguments,
            argv,
            prog="python -m flowpp.sample",
            description="Draw images from a trained model into one PNG.",
        )
        from flowpp import runs, sampling  # after parsing: torch takes seconds
        from flowpp.training import seeded

        run = runs.Run.open(arguments.run)
        _, images, model = run.load(arguments.device)
    drawn = sampling.sample(model, images.shape, arguments.count, seeded(arguments.seed))
    out = arguments.out or run.path / "samples" / f"seed-{arguments.seed}.png"
    sampling.save_grid(out, drawn, images.levels)
    print(f"{arguments.count} samples in {out}")


if __name__ == "__main__":
    main()
