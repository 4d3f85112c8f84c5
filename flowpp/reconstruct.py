"""python -m flowpp.reconstruct RUN [--count 16] [--out PNG]: image -> z -> image, its error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from flowpp.config import checks
from flowpp.config.command_line import parse, user_errors, warn
from flowpp.evaluation.images import output_path, save_arrays, save_grid


@dataclass(frozen=True)
class Arguments:
    """What can be said on the command line."""

    run: Annotated[Positional[Path], arg(metavar="RUN")]
    """The run directory."""
    count: int = 16
    """So many held-out images, from the first."""
    seed: int = 0
    """Of the dequantization noise."""
    out: Path | None = None
    """The picture: images above, what comes back below; RUN/samples/reconstructed.png if not
    given. Beside it the same as .npz."""
    data_path: Annotated[str | None, arg(name="data.path")] = None
    """Where the images lie now, if not where the run found them."""
    checkpoint: Literal["newest", "best"] = "newest"
    device: str = "cpu"
    dtype: Literal["float32", "float64"] = "float32"

    def __post_init__(self) -> None:
        """Refuse what cannot be drawn or written."""
        checks.at_least("count", self.count, 1)
        checks.seed("seed", self.seed)
        output_path(self.out)


def main(argv: Sequence[str] | None = None) -> None:
    """Print how far held-out images are from what comes back of them."""
    with user_errors():
        arguments = parse(
            Arguments,
            argv,
            prog="python -m flowpp.reconstruct",
            description="Held-out images to z and back, with the error.",
        )
        import numpy as np
        import torch  # after parsing: it takes seconds

        from flowpp import data, trained_model

        model = trained_model.load(
            arguments.run, device=arguments.device, which=arguments.checkpoint, warn=warn
        )
        model.model.to(getattr(torch, arguments.dtype))
        kept = model.config.data
        images = data.load(replace(kept, path=arguments.data_path or kept.path)).test[
            : arguments.count
        ]
        out = output_path(arguments.out, arguments.run, "samples", "reconstructed.png")
    back, distance = model.round_trip(images, seed=arguments.seed)
    rows = [half for pair in zip(images, back, strict=True) for half in pair]
    with user_errors():
        save_grid(out, np.stack(rows), model.levels, columns=_columns(len(images)))
        save_arrays(
            out.with_suffix(".npz"), images=images, reconstructed=back, distance=distance
        )
    wrong = int((back != images).sum())
    print(
        f"{len(images)} held-out images, {arguments.dtype}: distance in grey levels "
        f"{np.median(distance):.1e} (median), {distance.max():.1e} (largest); "
        f"{wrong} of {images.size} numbers came back as another integer\n"
        f"pairs of an image and what came back in {out}"
    )


def _columns(pairs: int) -> int:
    """An even number of columns, so that no pair is torn apart."""
    return 2 * max(1, round((pairs / 2) ** 0.5))


if __name__ == "__main__":
    main()
