"""python -m flowpp.interpolate RUN [--pairs 4] [--steps 8]: between two images, in z."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from flowpp.config import checks
from flowpp.config.command_line import parse, user_errors, warn
from flowpp.evaluation.images import output_path, save_arrays, save_grid

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Arguments:
    """What can be said on the command line."""

    run: Annotated[Positional[Path], arg(metavar="RUN")]
    """The run directory."""
    pairs: int = 4
    """Rows: the first held-out image to the second, the third to the fourth, and so on."""
    steps: int = 8
    """Columns, both ends included."""
    way: Literal["great-circle", "straight"] = "great-circle"
    """A straight line between two z passes where the prior hardly ever is: near the origin."""
    seed: int = 0
    """Of the dequantization noise."""
    out: Path | None = None
    """The picture, and beside it the same as .npz; RUN/samples/interpolated.png if not given."""
    data_path: Annotated[str | None, arg(name="data.path")] = None
    """Where the images lie now, if not where the run found them."""
    checkpoint: Literal["newest", "best"] = "newest"
    device: str = "cpu"

    def __post_init__(self) -> None:
        """Refuse what cannot be drawn or written."""
        checks.at_least("pairs", self.pairs, 1)
        checks.at_least("steps", self.steps, 2)
        checks.seed("seed", self.seed)
        output_path(self.out)


def between(a: np.ndarray, b: np.ndarray, steps: int, way: str) -> np.ndarray:
    """`steps` points from a to b, both included: (steps, *shape).

    On the great circle the direction turns evenly, and the length changes evenly.
    """
    import numpy as np

    t = np.linspace(0, 1, steps).reshape(-1, *(1,) * a.ndim)
    length_a, length_b = np.linalg.norm(a), np.linalg.norm(b)
    straight = (1 - t) * a + t * b
    if way == "straight" or not length_a or not length_b:
        return straight
    from_a, from_b = a / length_a, b / length_b
    angle = np.arccos(np.clip(np.sum(from_a * from_b), -1, 1))
    if np.sin(angle) < 1e-6:  # the same direction, or an opposite one without a way of its own
        return straight
    turned = (np.sin((1 - t) * angle) * from_a + np.sin(t * angle) * from_b) / np.sin(angle)
    return turned * ((1 - t) * length_a + t * length_b)


def main(argv: Sequence[str] | None = None) -> None:
    """Draw what lies between held-out images."""
    with user_errors():
        arguments = parse(
            Arguments,
            argv,
            prog="python -m flowpp.interpolate",
            description="Between pairs of held-out images, in z.",
        )
        import numpy as np

        from flowpp import data, trained_model

        model = trained_model.load(
            arguments.run, device=arguments.device, which=arguments.checkpoint, warn=warn
        )
        kept = model.config.data
        images = data.load(replace(kept, path=arguments.data_path or kept.path)).test
        if 2 * arguments.pairs > len(images):
            raise ValueError(
                f"pairs must be at most {len(images) // 2}: there are {len(images)} held-out "
                f"images, got {arguments.pairs}"
            )
        out = output_path(arguments.out, arguments.run, "samples", "interpolated.png")
    z = model.encode(images[: 2 * arguments.pairs], seed=arguments.seed).astype(np.float64)
    ways = [
        between(a, b, arguments.steps, arguments.way) for a, b in zip(z[::2], z[1::2], strict=True)
    ]
    drawn = model.decode(np.concatenate(ways))
    with user_errors():
        save_grid(out, drawn, model.levels, columns=arguments.steps)
        save_arrays(out.with_suffix(".npz"), images=drawn)
    print(f"{arguments.pairs} rows of {arguments.steps} images in {out}")


if __name__ == "__main__":
    main()
