"""python -m flowpp.sample RUN [--count 64] [--seed 0] [--out PNG]"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from flowpp import ranges
from flowpp.command_line import mistakes_in_one_line, parse
from flowpp.files import writable_folder


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
        ranges.at_least("count", self.count, 1)
        ranges.seed("seed", self.seed)
        if self.out is not None and self.out.suffix.lower() != ".png":
            raise ValueError(f"out must end in .png, got {self.out}")
        if self.out is not None and self.out.is_dir():
            raise ValueError(f"out must be a file, got the folder {self.out}")
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
        from flowpp import data, model, runs, sampling  # after parsing: torch takes seconds
        from flowpp.training import seeded

        run = runs.Run.open(arguments.run)
        config = run.config()
        # Not `run.load`: the weights suffice, the images may lie on another machine.
        shape, levels = data.declared_shape(config.data)
        flow = model.build_model(config.model, shape, levels)
        run.checkpoint().restore(flow, average=True)
        flow = runs.to_device(flow, arguments.device)
        out = arguments.out or run.path / "samples" / f"seed-{arguments.seed}.png"
        writable_folder(out.parent)
    try:
        drawn = sampling.sample(flow, shape, arguments.count, seeded(arguments.seed))
    except sampling.NonFiniteSampleError as error:
        raise SystemExit(f"error: {error}") from None
    with mistakes_in_one_line():
        sampling.save_grid(out, drawn, levels)
    print(f"{arguments.count} samples in {out}")


if __name__ == "__main__":
    main()
