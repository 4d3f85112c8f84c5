"""python -m flowpp.interpolate RUN [--pairs 4] [--steps 8]: interpolate between images in z."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from flowpp.config import checks
from flowpp.config.command_line import parse, user_errors, warn
from flowpp.evaluation.arguments import HeldOutImageArguments
from flowpp.evaluation.grids import save_arrays
from flowpp.evaluation.labelled_grids import Panel, save_labelled
from flowpp.runtime.standard_output import exit_on_broken_pipe

if TYPE_CHECKING:
    import numpy as np

    from flowpp.config.context_spec import ContextSpec


@dataclass(frozen=True)
class Arguments(HeldOutImageArguments):
    """Command-line arguments."""

    pairs: int = 4
    """Number of rows: from held-out image 1 to 2, from 3 to 4, and so on."""
    steps: int = 8
    """Number of columns, both images included."""
    way: Literal["great-circle", "straight"] = "great-circle"
    """Path between two z; straight ones pass close to 0, where the prior has little mass."""

    def __post_init__(self) -> None:
        """Validate the arguments."""
        super().__post_init__()
        checks.at_least("pairs", self.pairs, 1)
        checks.at_least("steps", self.steps, 2)


def between(a: np.ndarray, b: np.ndarray, steps: int, path: str) -> np.ndarray:
    """Return `steps` points from a to b, both included: (steps, *shape).

    On the great circle, the angle and the length change linearly.
    """
    import numpy as np

    t = np.linspace(0, 1, steps).reshape(-1, *(1,) * a.ndim)
    length_a, length_b = np.linalg.norm(a), np.linalg.norm(b)
    straight = (1 - t) * a + t * b
    if path == "straight" or not length_a or not length_b:
        return straight
    from_a, from_b = a / length_a, b / length_b
    angle = np.arccos(np.clip(np.sum(from_a * from_b), -1, 1))
    if np.sin(angle) < 1e-6:  # equal or opposite directions: no unique great circle
        return straight
    directions = (np.sin((1 - t) * angle) * from_a + np.sin(t * angle) * from_b) / np.sin(angle)
    return directions * ((1 - t) * length_a + t * length_b)


def contexts_between(a: np.ndarray, b: np.ndarray, steps: int, spec: ContextSpec) -> np.ndarray:
    """Return the contexts of `steps` points from a to b: (steps, *shape).

    Vectors and images change linearly. Labels and masks cannot: they are those of the nearer end,
    in the middle those of b.
    """
    import numpy as np

    t = np.linspace(0, 1, steps).reshape(-1, *(1,) * a.ndim)
    if spec.kind == "labels" or spec.source == "mask":
        return np.where(t < 0.5, a, b)
    return (1 - t) * a + t * b


def main(argv: Sequence[str] | None = None) -> None:
    """Interpolate between held-out images and write the results as a PNG and an npz."""
    with user_errors():
        arguments = parse(
            Arguments,
            argv,
            prog="python -m flowpp.interpolate",
            description="Interpolate between pairs of held-out images, in z.",
        )
        import numpy as np

        from flowpp import trained_model  # imports torch
        from flowpp.evaluation.held_out import held_out_images
        from flowpp.evaluation.inverse_errors import inverse_errors
        from flowpp.kernels.backend import check_variable

        model = trained_model.load(
            arguments.run, device=arguments.device, checkpoint=arguments.checkpoint, warn=warn
        )
        check_variable(arguments.device)
        held_out = held_out_images(arguments.run, model, arguments.data_path, warn)
        images, contexts = held_out.images, held_out.contexts
        if 2 * arguments.pairs > len(images):
            raise ValueError(
                f"pairs must be at most {len(images) // 2}, half the {len(images)} held-out "
                f"images, got {arguments.pairs}"
            )
        read = arguments.data_path or model.config.data.path
        out = arguments.output_file("interpolated.png", read)
    ends = slice(2 * arguments.pairs)
    given = None if contexts is None else contexts[ends]
    with inverse_errors():
        z = model.encode(images[ends], given, seed=arguments.seed).astype(np.float64)
    rows = [
        between(a, b, arguments.steps, arguments.way) for a, b in zip(z[::2], z[1::2], strict=True)
    ]
    spec, path = model.context_spec, None
    if spec is not None and given is not None:
        pairs = zip(given[::2], given[1::2], strict=True)
        path = np.concatenate([contexts_between(a, b, arguments.steps, spec) for a, b in pairs])
    with inverse_errors():
        decoded = model.decode(np.concatenate(rows), path)
    with user_errors():
        title, panel = _labelled(arguments, decoded, model.step, held_out.name)
        save_labelled(out, title, [panel], model.levels)
        save_arrays(out.with_suffix(".npz"), images=decoded)
    rows_of = "1 row" if arguments.pairs == 1 else f"{arguments.pairs} rows"
    print(f"{rows_of} of {arguments.steps} images in {out} and {out.with_suffix('.npz').name}")


def _labelled(arguments: Arguments, images: np.ndarray, step: int, ends: str) -> tuple[str, Panel]:
    """Return the title and the labelled grid."""
    steps = arguments.steps
    if arguments.plain:
        return "", Panel(images, columns=steps)
    path = "line" if arguments.way == "straight" else "great circle"
    title = (
        f"{arguments.run.resolve().name}, step {step}: {ends} in the first and last "
        f"column, between them images on the {path} between their z"
    )
    pairs = [f"{2 * row + 1} to {2 * row + 2}" for row in range(arguments.pairs)]
    shares = [f"{column / (steps - 1):.0%}" for column in range(steps)]
    return title, Panel(images, "", steps, pairs, shares)


if __name__ == "__main__":
    with exit_on_broken_pipe():
        main()
