"""python -m flowpp.evaluate RUN [--importance_samples N] [--images N] [--seed N]"""

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
    importance_samples: int = 1
    """Draws per image for the importance-weighted bound; 1 for the one-sample bound alone."""
    images: int | None = None
    """So many of the held-out images, from the first; all if not given."""
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        """Refuse counts below one."""
        if self.importance_samples < 1:
            raise ValueError(
                f"importance_samples must be at least 1, got {self.importance_samples}"
            )
        if self.images is not None and self.images < 1:
            raise ValueError(f"images must be at least 1, got {self.images}")


def main(argv: Sequence[str] | None = None) -> None:
    """Print held-out bits per dimension of a trained model, with its averaged weights."""
    with mistakes_in_one_line():
        arguments = parse(
            Arguments,
            argv,
            prog="python -m flowpp.evaluate",
            description="Held-out bits/dim of a trained model, with its averaged weights.",
        )
        from flowpp import baselines, evaluation, runs  # after parsing: torch takes seconds
        from flowpp.training import seeded

        _, images, model = runs.Run.open(arguments.run).load(arguments.device)
    test = images.test[: arguments.images]
    print(f"held-out bits/dim on {images.name}, {len(test)} images")
    estimate = evaluation.one_sample_bound(model, test, seeded(arguments.seed))
    print(f"  one-sample bound             {estimate}")
    if arguments.importance_samples > 1:
        samples = arguments.importance_samples
        estimate = evaluation.importance_bound(model, test, samples, seeded(arguments.seed))
        print(f"  {samples:>5} importance samples     {estimate}")
    print(f"  independent pixels           {baselines.histogram_code(images):.4f} (all held-out)")
    print(f"  uniform                      {baselines.uniform_code(images):.4f}")


if __name__ == "__main__":
    main()
