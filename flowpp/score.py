"""python -m flowpp.score RUN FOLDER [--out scores.csv]: bits/dim of each image, with a picture."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from flowpp.config import checks
from flowpp.config.command_line import parse, user_errors, warn
from flowpp.data.formats import count_of
from flowpp.evaluation.arguments import Channels, check_csv, csv_file
from flowpp.runtime.files import write_json
from flowpp.runtime.standard_output import exit_on_broken_pipe

if TYPE_CHECKING:  # importing torch takes seconds: not for --help
    import numpy as np

    from flowpp.data.unsplit import NamedImages
    from flowpp.evaluation.scores import Scores
    from flowpp.runs.open_model import OpenedModel

SHOWN = 5
"""Number of images with the most bits that are printed."""


@dataclass(frozen=True)
class Arguments:
    """Command-line arguments."""

    run: Annotated[Positional[Path], arg(metavar="RUN")]
    """Run directory, checkpoint file, or name of a pretrained model."""
    images: Annotated[Positional[Path], arg(metavar="FOLDER")]
    """Folder of images, one image, or a file of them: zip, tar, .npy, .npz, .pt, .safetensors,
    .parquet. They are resized and cropped as in training; all are scored, whatever their folders
    are called."""
    out: Annotated[
        Path | None,
        arg(metavar="CSV", help_behavior_hint="(default: a file in RUN/scores)"),
    ] = None
    """File to write: a line for each image with its bits/dim and its rank, 1 for the most bits.
    The picture is written beside it as .png, and what the numbers belong to as .json."""
    label: Annotated[
        str | None, arg(metavar="NAME", help_behavior_hint="(default: that of each image)")
    ] = None
    """Class of all images, for a model of labels; none for the probability without a label. By
    default, images lie in folders that are called like the classes."""
    labels: Annotated[
        Path | None, arg(metavar="CSV", help_behavior_hint="(default: the images' folders)")
    ] = None
    """File with the class of each image: name of the image, class."""
    context: Annotated[
        Path | None, arg(metavar="PATH", help_behavior_hint="(default: made of each image)")
    ] = None
    """Contexts, for a model of vectors or of paired images: a CSV or .npy, or a folder."""
    importance_samples: int = 1
    """Draws per image; more give a tighter bound and take that many times as long."""
    show: int = 8
    """Number of images with the most bits, and of those with the fewest, in the picture."""
    checkpoint: Literal["newest", "best"] = "newest"
    """Checkpoint of a run directory: the newest, or the best on held-out images."""
    batch_size: Annotated[
        int | None, arg(metavar="INT", help_behavior_hint="(default: what fits into the memory)")
    ] = None
    """Number of rows computed at once."""
    seed: int = 0
    """Seed of the dequantization noise; equal seeds give equal scores."""
    device: str = "auto"
    """Device to compute on, such as cpu, cuda or cuda:1; auto takes a GPU if there is one."""
    channels: Channels = None
    """Convert all images to grey (1) or colour (3), which the model must be of."""
    skip_bad: bool = False
    """Leave out files that are not images of the model's kind; they are listed in the CSV."""

    def __post_init__(self) -> None:
        """Validate the arguments."""
        for name in ("importance_samples", "show", "batch_size"):
            checks.at_least(name, getattr(self, name), 1)
        checks.seed("seed", self.seed)
        if self.label is not None and self.labels is not None:
            raise ValueError("label and labels exclude each other, got both")
        check_csv(self.out)

    def output_file(self) -> Path:
        """Return the path of the CSV, and create its folder."""
        tables = [self.labels, self.context]
        return csv_file(self.out, self.run, "scores", self.images, tables)


def main(argv: Sequence[str] | None = None) -> None:
    """Score the images, and write CSV, picture and receipt."""
    import numpy as np

    with user_errors():
        arguments = parse(
            Arguments,
            argv,
            prog="python -m flowpp.score",
            description="Bits/dim of every image of a folder under a trained model, with a "
            "picture of the least and most likely images and of the bits of their pixels.",
        )
        from flowpp.evaluation.given_contexts import check_none_is_trained
        from flowpp.evaluation.other_contexts import contexts_of
        from flowpp.evaluation.other_images import load_other  # imports torch
        from flowpp.evaluation.scores import write_csv
        from flowpp.kernels.backend import check_variable
        from flowpp.runs.open_model import open_model

        opened = open_model(
            arguments.run, which=arguments.checkpoint, device=arguments.device, warn=warn
        )
        check_variable(arguments.device)
        images = load_other(
            arguments.images, opened, channels=arguments.channels, skip_bad=arguments.skip_bad
        )
        contexts = contexts_of(
            images, opened.model.context_spec, label=arguments.label, labels=arguments.labels,
            context=arguments.context,
        )  # fmt: skip
        dropout = opened.config.training.label_dropout
        check_none_is_trained(contexts, opened.model.context_spec, dropout)
        arguments = replace(arguments, batch_size=_batch(arguments, opened))
        out = arguments.output_file()
    for note in images.notes:
        print(note)
    begin = time.monotonic()
    scores = _scored(arguments, opened, images, contexts)
    seconds = time.monotonic() - begin
    with user_errors():
        write_csv(out, images.names, scores, images.left_out())
        _draw(arguments, opened, images, contexts, scores, out.with_suffix(".png"))
        write_json(out.with_suffix(".json"), _receipt(arguments, opened, images, scores, seconds))
    print(_summary(images, scores, out))
    if not np.isfinite(scores.bits_per_dim).all():
        raise SystemExit("error: bits/dim of some images are not finite: see the column note")


def _batch(arguments: Arguments, opened: OpenedModel) -> int:
    from flowpp.evaluation.batch_size import activation_megabytes
    from flowpp.evaluation.importance import batch_for

    if arguments.batch_size is not None:
        return arguments.batch_size
    device = next(opened.model.parameters()).device
    return batch_for(opened.model, opened.image_shape, activation_megabytes(device))


def _scored(
    arguments: Arguments,
    opened: OpenedModel,
    images: NamedImages,
    contexts: np.ndarray | None,
) -> Scores:
    from flowpp.evaluation.progress import progress_bar
    from flowpp.evaluation.scores import score_images

    assert arguments.batch_size is not None
    total = len(images.pixels) * arguments.importance_samples
    with progress_bar(total, silent=False) as advance:
        return score_images(
            opened.model, images.pixels, arguments.importance_samples,
            seed=arguments.seed, batch=arguments.batch_size, progress=advance, contexts=contexts,
        )  # fmt: skip


def _draw(
    arguments: Arguments,
    opened: OpenedModel,
    images: NamedImages,
    contexts: np.ndarray | None,
    scores: Scores,
    path: Path,
) -> None:
    """Draw the images with the most and the fewest bits, no image in both rows."""
    import numpy as np

    from flowpp.evaluation.score_picture import caption, draw_scores
    from flowpp.evaluation.scores import bits_maps

    order = scores.order()
    order = order[np.isfinite(scores.bits_per_dim[order])]
    if not len(order):
        return
    most = order[: min(arguments.show, (len(order) + 1) // 2)]
    fewest = order[len(most) :][::-1][: arguments.show]
    rows = []
    for label, chosen in (("most bits", most), ("fewest bits", fewest)):
        if len(chosen):
            maps = bits_maps(
                opened.model, images.pixels, chosen, arguments.importance_samples,
                seed=arguments.seed, contexts=contexts,
            )  # fmt: skip
            captions = [caption(images.names[i], scores.bits_per_dim[i]) for i in chosen]
            rows.append((label, images.pixels[chosen], maps, captions))
    samples = arguments.importance_samples
    bound = "one-sample bound" if samples == 1 else f"{samples} importance samples"
    title = (
        f"{images.name} under {arguments.run.resolve().name}, step {opened.checkpoint.step}: "
        f"{count_of(len(images.names), 'image')}, {bound}"
    )
    draw_scores(path, title, rows, images.levels)


def _receipt(
    arguments: Arguments,
    opened: OpenedModel,
    images: NamedImages,
    scores: Scores,
    seconds: float,
) -> dict[str, Any]:
    import torch

    from flowpp.evaluation.bound import Estimate
    from flowpp.evaluation.receipt import receipt

    bounds = {1: scores.one_sample, arguments.importance_samples: scores.bits_per_dim}
    model, batch = opened.model, arguments.batch_size
    assert batch is not None
    like = next(model.parameters())
    result = receipt(
        images=images.as_image_set(), count=len(images.pixels),
        bounds={n: Estimate.of(torch.from_numpy(bits)) for n, bits in bounds.items()},
        checkpoint=opened.checkpoint, dtype=like.dtype, device=like.device, precision="float32",
        seed=arguments.seed, batch=batch, memory=None, seconds=seconds,
        augmentation=opened.config.data.augmentation, part="other",
    )  # fmt: skip
    result["data"] |= {"skipped": images.skipped, "unread": list(images.unread)}
    if opened.model.context_spec is not None:
        given = arguments.label or arguments.labels or arguments.context
        result["data"]["context"] = "that of each image" if given is None else str(given)
    return result


def _summary(images: NamedImages, scores: Scores, out: Path) -> str:
    """Return the lines printed at the end."""
    import numpy as np

    order = scores.order()
    bits = scores.bits_per_dim
    finite = bits[np.isfinite(bits)]
    lines = [f"bits/dim of {count_of(len(bits), 'image')} of {images.name}"]
    if len(finite):
        low, middle, high = np.percentile(finite, (0, 50, 100))
        lines.append(f"  fewest {low:.4f}, median {middle:.4f}, most {high:.4f}")
        lines += [f"  {bits[i]:8.4f}  {images.names[i]}" for i in order[:SHOWN] if i < len(bits)]
    picture = out.with_suffix(".png")
    also = f" and {picture.name}" if len(finite) else ""
    return "\n".join([*lines, f"scores    {out}, with {out.with_suffix('.json').name}{also}"])


if __name__ == "__main__":
    with exit_on_broken_pipe():
        main()
