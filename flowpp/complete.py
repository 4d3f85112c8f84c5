"""python -m flowpp.complete RUN [IMAGES]: images given a grey, small, masked or other image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from flowpp.config import checks
from flowpp.config.command_line import parse, user_errors, warn
from flowpp.data.formats import count_of
from flowpp.evaluation.arguments import Channels, HeldOutImageArguments
from flowpp.evaluation.grids import save_arrays
from flowpp.evaluation.labelled_grids import save_labelled
from flowpp.runtime.standard_output import exit_on_broken_pipe

if TYPE_CHECKING:  # importing torch takes seconds: not for --help
    from flowpp.evaluation.completion import Given
    from flowpp.trained_model import TrainedModel

ROWS = 8
"""Number of images, unless there are fewer."""
TASKS = {
    "grey": "colourization",
    "low-resolution": "super-resolution",
    "mask": "inpainting",
    "folder": "images given images",
}


@dataclass(frozen=True)
class Arguments(HeldOutImageArguments):
    """Command-line arguments."""

    images: Annotated[
        Positional[Path | None],
        arg(metavar="[IMAGES]", help_behavior_hint="(default: the run's held-out images)"),
    ] = None
    """Folder of images, one image, or a file of them, as for `score`: the run's kind of context is
    made of each. For a run trained with a folder of contexts they are the contexts."""
    count: int = 3
    """Number of samples for each image."""
    rows: Annotated[
        int | None, arg(metavar="INT", help_behavior_hint="(default: 8, or all if fewer)")
    ] = None
    """Number of images, evenly spread over all."""
    contexts: bool = False
    """IMAGES are contexts themselves, such as grey photographs, instead of images to make them of;
    the picture then has no truth beside the samples."""
    mask: Annotated[
        Path | None, arg(metavar="IMAGE", help_behavior_hint="(default: rectangles at random)")
    ] = None
    """Image of the hidden pixels, for a run trained with masks: black where hidden, white where
    visible."""
    channels: Channels = None
    """Convert all IMAGES to grey (1) or colour (3), which the model must be of."""
    skip_bad: bool = False
    """Leave out files of IMAGES that are not images of the model's kind."""
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
        for name in ("count", "rows", "batch_size"):
            checks.at_least(name, getattr(self, name), 1)
        checks.within("temperature", self.temperature, 0, math.inf)
        for name in ("contexts", "channels", "skip_bad"):
            if self.images is None and getattr(self, name):
                raise ValueError(f"{name} needs IMAGES: the run's own images are as in training")


def main(argv: Sequence[str] | None = None) -> None:
    """Sample images given contexts, and write them between context and truth."""
    with user_errors():
        arguments = parse(
            Arguments,
            argv,
            prog="python -m flowpp.complete",
            description="Colourization, super-resolution, inpainting: images sampled given "
            "another image, from a run trained with --data.context, beside context and truth.",
        )
        from flowpp import trained_model  # imports torch
        from flowpp.evaluation.completion import pasted
        from flowpp.evaluation.inverse_errors import inverse_errors
        from flowpp.evaluation.sample_grids import beside
        from flowpp.kernels.backend import check_variable

        model = trained_model.load(
            arguments.run, device=arguments.device, checkpoint=arguments.checkpoint, warn=warn
        )
        check_variable(arguments.device)
        given = _given(arguments, model)
        data = arguments.data_path or model.config.data.path
        out = arguments.output_file("completed.png", arguments.images, arguments.mask, data)
    for note in given.notes:
        print(note)
    spec = model.context_spec
    assert spec is not None
    with inverse_errors():
        drawn = model.sample(
            len(given.contexts) * arguments.count, given.contexts.repeat(arguments.count, axis=0),
            temperature=arguments.temperature, seed=arguments.seed,
            batch_size=arguments.batch_size,
        )  # fmt: skip
    samples = pasted(spec, given.contexts, drawn)
    with user_errors():
        panel = beside(spec, given.contexts, samples, given.truth, model.levels)
        title = "" if arguments.plain else _title(arguments, model)
        save_labelled(out, title, [panel], model.levels)
        truth = {} if given.truth is None else {"truth": given.truth}
        save_arrays(out.with_suffix(".npz"), images=samples, contexts=given.contexts,
                    levels=model.levels, **truth)  # fmt: skip
    samples_each = count_of(arguments.count, "sample")
    number = count_of(len(given.contexts), "image")
    print(f"{samples_each} for each of {number} in {out} and {out.with_suffix('.npz').name}")


def _given(arguments: Arguments, model: TrainedModel) -> Given:
    """Return the contexts, and the images that they are made of.

    Raises:
        ValueError: a model without image contexts, or more rows than images.
    """
    from flowpp.evaluation import completion
    from flowpp.evaluation.held_out import held_out_images
    from flowpp.evaluation.other_images import converting

    flow, data = model.model, model.config.data
    spec = completion.image_contexts_of(flow)
    if arguments.mask is not None and spec.source != "mask":
        raise ValueError(f"mask needs a run trained with masks, got one of {spec.source} contexts")
    if arguments.images is None:
        held_out = held_out_images(arguments.run, model, arguments.data_path, warn)
        assert held_out.contexts is not None
        given = completion.Given(held_out.contexts, held_out.images)
    elif arguments.contexts or spec.source == "folder":
        given = completion.given_contexts(
            flow, data, arguments.images, skip_bad=arguments.skip_bad
        )
    else:
        data = converting(data, arguments.channels, model.image_shape[0])
        given = completion.made_of(flow, data, arguments.images, skip_bad=arguments.skip_bad)
    if arguments.mask is not None:
        crop: Literal["centre", "stretch"] = "stretch" if data.crop == "stretch" else "centre"
        given = completion.with_mask(flow, given, arguments.mask, crop)
    rows = min(ROWS, len(given.contexts)) if arguments.rows is None else arguments.rows
    if rows > len(given.contexts):
        raise ValueError(f"rows must be at most the {len(given.contexts)} images, got {rows}")
    return given.spread(rows)


def _title(arguments: Arguments, model: TrainedModel) -> str:
    spec = model.context_spec
    assert spec is not None
    task = TASKS.get(spec.source, TASKS["folder"])
    return (
        f"{task} by {arguments.run.resolve().name}, step {model.step}, temperature "
        f"{arguments.temperature:g}, seed {arguments.seed}"
    )


if __name__ == "__main__":
    with exit_on_broken_pipe():
        main()
