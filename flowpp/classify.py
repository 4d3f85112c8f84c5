"""python -m flowpp.classify RUN [FOLDER]: classes of images by Bayes' rule, with calibration."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from flowpp.config import checks
from flowpp.config.command_line import parse, user_errors, warn
from flowpp.data.formats import count_of
from flowpp.evaluation.arguments import Channels, DataPath, check_csv, csv_file
from flowpp.runtime.files import write_json
from flowpp.runtime.standard_output import exit_on_broken_pipe

if TYPE_CHECKING:  # importing torch takes seconds: not for --help
    import numpy as np

    from flowpp.data import ImageSet
    from flowpp.data.image_set import Part
    from flowpp.evaluation.classification import Calibration
    from flowpp.evaluation.classification_files import Classified
    from flowpp.evaluation.labelled_images import LabelledImages
    from flowpp.runs.open_model import OpenedModel

FITTED = 500
"""Largest number of validation images that a temperature is fitted on."""


@dataclass(frozen=True)
class Arguments:
    """Command-line arguments."""

    run: Annotated[Positional[Path], arg(metavar="RUN")]
    """Run directory or checkpoint file of a model of labels, trained with --data.labels."""
    images: Annotated[
        Positional[Path | None],
        arg(metavar="[FOLDER]", help_behavior_hint="(default: the run's held-out images)"),
    ] = None
    """Folder of images, one image, or a file of them, as for `score`. If images lie in folders
    that are called like the classes, the predictions are compared with these."""
    labels: Annotated[
        Path | None, arg(metavar="CSV", help_behavior_hint="(default: the images' folders)")
    ] = None
    """File with the true class of each image of FOLDER: name of the image, class."""
    out: Annotated[
        Path | None, arg(metavar="CSV", help_behavior_hint="(default: a file in RUN/classified)")
    ] = None
    """File to write: a line for each image with its prediction, its true class if known, and the
    posterior of each class. The confusion matrix is written beside it as .png, and accuracy and
    calibration as .json."""
    importance_samples: int = 1
    """Draws per image and class; more give tighter bounds and take that many times as long."""
    prior: Literal["uniform", "training"] = "uniform"
    """Probability of the classes before an image is seen: equal, or as often as in training."""
    calibrate: Literal["auto", "validation", "halves", "none"] = "auto"
    """Images that the temperature of the posteriors is fitted on: the run's validation images, or
    those of known class, each half of them with the temperature of the other; auto takes the first
    that there are."""
    data_path: DataPath = None
    """Path of the run's data set, if it has moved since training."""
    checkpoint: Literal["newest", "best"] = "newest"
    """Checkpoint of a run directory: the newest, or the best on held-out images."""
    batch_size: Annotated[
        int | None, arg(metavar="INT", help_behavior_hint="(default: what fits into the memory)")
    ] = None
    """Number of rows computed at once, of one image and class each."""
    seed: int = 0
    """Seed of the dequantization noise, which is the same for all classes."""
    device: str = "auto"
    """Device to compute on, such as cpu, cuda or cuda:1; auto takes a GPU if there is one."""
    channels: Channels = None
    """Convert all images of FOLDER to grey (1) or colour (3), which the model must be of."""
    skip_bad: bool = False
    """Leave out files of FOLDER that are not images of the model's kind; the CSV lists them."""

    def __post_init__(self) -> None:
        """Validate the arguments."""
        for name in ("importance_samples", "batch_size"):
            checks.at_least(name, getattr(self, name), 1)
        checks.seed("seed", self.seed)
        check_csv(self.out)
        for name in ("labels", "channels", "skip_bad"):
            if self.images is None and getattr(self, name):
                raise ValueError(f"{name} needs FOLDER: the run's own images are as in training")

    def output_file(self) -> Path:
        """Return the path of the CSV, and create its folder."""
        return csv_file(self.out, self.run, "classified", self.images, [self.labels])


def main(argv: Sequence[str] | None = None) -> None:
    """Classify the images, and write CSV, receipt and picture."""
    with user_errors():
        arguments = parse(
            Arguments,
            argv,
            prog="python -m flowpp.classify",
            description="Classes of images by Bayes' rule, from a model trained with labels: "
            "calibrated posteriors, accuracy and confusion matrix. Each image is evaluated once "
            "for each class and draw.",
        )
        from flowpp.evaluation.classification import class_count
        from flowpp.evaluation.classification_files import draw_confusion, write_csv
        from flowpp.kernels.backend import check_variable
        from flowpp.runs.open_model import open_model

        opened = open_model(
            arguments.run, which=arguments.checkpoint, device=arguments.device, warn=warn
        )
        check_variable(arguments.device)
        class_count(opened.model)
        data = _run_data(arguments, opened)
        given = _images(arguments, opened, data)
        prior = _prior(arguments, opened, data)
        batch = _batch(arguments, opened)
        out = arguments.output_file()
    for note in given.notes:
        print(note)
    begin = time.monotonic()
    log_probs = _log_probs(arguments, opened, given.pixels, batch)
    calibration = _calibration(arguments, opened, data, given, log_probs, prior, batch)
    classified = _classified(opened, given, log_probs, prior, calibration)
    seconds = time.monotonic() - begin
    with user_errors():
        write_csv(out, classified, given.left_out)
        write_json(
            out.with_suffix(".json"), _receipt(arguments, opened, given, classified, seconds)
        )
        if classified.accuracy is not None:
            title = _title(arguments, opened, given, classified)
            draw_confusion(out.with_suffix(".png"), title, classified)
    print(_summary(given, classified, out))
    if not classified.finite.all():
        raise SystemExit("error: log P(x|y) of some images is not finite: see the column note")


def _run_data(arguments: Arguments, opened: OpenedModel) -> ImageSet | None:
    """Return the run's own data where it is needed; None if it cannot be read and need not be."""
    from flowpp.evaluation.part_contexts import own_contexts
    from flowpp.runs.environment import check_images_of
    from flowpp.runs.open_model import load_images

    needed = (
        arguments.images is None
        or arguments.prior == "training"
        or arguments.calibrate == "validation"
        or arguments.data_path is not None
    )
    if not needed and arguments.calibrate != "auto":
        return None
    try:
        images = load_images(opened.config, arguments.data_path)
        form = opened.image_shape, opened.model.levels
        check_images_of(arguments.run, opened.checkpoint.facts, images, *form)
        if images.valid is not None or arguments.prior == "training":  # labels are used
            own_contexts(images, "train", opened.model.context_spec)
        return images
    except (ValueError, TypeError, OSError) as error:
        if needed:
            raise
        warn(f"the run's data cannot be read, which is needed for its validation images: {error}")
        return None


def _images(arguments: Arguments, opened: OpenedModel, data: ImageSet | None) -> LabelledImages:
    from flowpp.evaluation.labelled_images import held_out, in_folder

    if arguments.images is None:
        assert data is not None
        return held_out(data, opened)
    return in_folder(
        arguments.images, opened, labels=arguments.labels, channels=arguments.channels,
        skip_bad=arguments.skip_bad,
    )  # fmt: skip


def _prior(arguments: Arguments, opened: OpenedModel, data: ImageSet | None) -> np.ndarray:
    import numpy as np

    from flowpp.evaluation.classification import class_count

    classes = class_count(opened.model)
    if arguments.prior == "uniform":
        return np.full(classes, 1 / classes)
    assert data is not None
    counts = np.bincount(_labels(data, "train"), minlength=classes)
    return counts / counts.sum()


def _labels(data: ImageSet, part: Part) -> np.ndarray:
    """Return the labels of a part of the run's data.

    Raises:
        ValueError: data without labels.
    """
    labels = data.context_of(part)
    if labels is None or labels.ndim != 1:
        raise ValueError(f"{data.name} must have labels, got none")
    return labels


def _batch(arguments: Arguments, opened: OpenedModel) -> int:
    from flowpp.evaluation.batch_size import activation_megabytes
    from flowpp.evaluation.importance import batch_for

    if arguments.batch_size is not None:
        return arguments.batch_size
    device = next(opened.model.parameters()).device
    return batch_for(opened.model, opened.image_shape, activation_megabytes(device))


def _log_probs(
    arguments: Arguments, opened: OpenedModel, pixels: np.ndarray, batch: int
) -> np.ndarray:
    from flowpp.evaluation.classification import class_count, class_log_probs
    from flowpp.evaluation.progress import progress_bar

    total = len(pixels) * class_count(opened.model) * arguments.importance_samples
    with progress_bar(total, silent=False) as advance:
        return class_log_probs(
            opened.model, pixels, arguments.importance_samples, seed=arguments.seed, batch=batch,
            progress=advance,
        )  # fmt: skip


def _calibration(
    arguments: Arguments,
    opened: OpenedModel,
    data: ImageSet | None,
    given: LabelledImages,
    log_probs: np.ndarray,
    prior: np.ndarray,
    batch: int,
) -> Calibration:
    """Fit the temperature of each image's posterior."""
    import numpy as np

    from flowpp.evaluation.classification import (
        FEWEST,
        Calibration,
        cross_fitted,
        fitted_temperature,
        informative,
    )
    from flowpp.evaluation.spread import evenly_spread

    ones, way = np.ones(len(log_probs)), arguments.calibrate
    if way == "none":
        return Calibration(ones, "nothing, as requested", 0)
    valid = None if data is None else data.valid
    if way in ("auto", "validation") and data is not None and valid is not None:
        chosen = evenly_spread(FITTED, len(valid))  # in class folders they lie class by class
        if len(chosen) >= FEWEST:
            found = _log_probs(arguments, opened, valid[chosen], batch)
            truth = _labels(data, "valid")[chosen]
            rows = informative(found, prior, truth)
            if rows.sum() >= FEWEST:
                fitted = fitted_temperature(found[rows], prior, truth[rows])
                origin = "the run's validation images"
                return Calibration(fitted * ones, origin, int(rows.sum()))
    known = informative(log_probs, prior, given.truth)
    if way in ("auto", "halves") and known.sum() >= 2 * FEWEST:
        temperatures = ones.copy()
        temperatures[known] = cross_fitted(log_probs[known], prior, given.truth[known])
        if not known.all():
            temperatures[~known] = fitted_temperature(log_probs[known], prior, given.truth[known])
        return Calibration(temperatures, "the other half of these images", int(known.sum()))
    reason = {
        "auto": f"no validation images of the run, nor {2 * FEWEST} images of known class",
        "validation": f"fewer than {FEWEST} validation images of the run",
        "halves": f"fewer than {2 * FEWEST} images of known class",
    }[way]
    return Calibration(ones, f"nothing: {reason}", 0)


def _classified(
    opened: OpenedModel,
    given: LabelledImages,
    log_probs: np.ndarray,
    prior: np.ndarray,
    calibration: Calibration,
) -> Classified:
    from flowpp.evaluation.classification_files import Classified

    names = opened.model.context_spec.names
    return Classified(given.names, names, log_probs, given.truth, prior, calibration)


def _receipt(
    arguments: Arguments,
    opened: OpenedModel,
    given: LabelledImages,
    classified: Classified,
    seconds: float,
) -> dict[str, Any]:
    from flowpp.evaluation.classification_files import results
    from flowpp.runs import environment
    from flowpp.runtime.hashing import weights_hash

    checkpoint = opened.checkpoint
    device = next(opened.model.parameters()).device
    return {
        "date": datetime.now().isoformat(timespec="seconds"),
        **results(classified),
        "cost": {
            "passes": classified.log_probs.size * arguments.importance_samples,
            "importance_samples": arguments.importance_samples,
            "seconds": round(seconds, 1),
        },
        "data": {"name": given.data.name, "sha256": given.data.sha256, "skipped": given.left_out},
        "weights": {
            "step": checkpoint.step,
            "sha256": weights_hash(checkpoint.selected_weights(average=True)),
        },
        "environment": environment.describe(device, arguments.seed, given.data, "float32"),
    }


def _title(
    arguments: Arguments, opened: OpenedModel, given: LabelledImages, classified: Classified
) -> str:
    return (
        f"{given.data.name} under {arguments.run.resolve().name}, step {opened.checkpoint.step}: "
        f"{classified.accuracy}"
    )


def _summary(given: LabelledImages, classified: Classified, out: Path) -> str:
    """Return the lines printed at the end."""
    calibration, errors = classified.calibration, classified.calibration_errors()
    classes = len(classified.classes)
    lines = [f"{count_of(len(classified.names), 'image')} of {given.data.name}, {classes} classes"]
    if classified.accuracy is None:
        lines.append("accuracy     unknown: no image's class is known")
    else:
        lines.append(f"accuracy     {classified.accuracy}")
    if calibration.count:
        each = ", ".join(f"{t:.3g}" for t in sorted(set(calibration.temperatures.tolist())))
        lines.append(f"temperature  {each}, fitted on {calibration.fitted_on}")
    else:
        lines.append(f"temperature  1, fitted on {calibration.fitted_on}")
    if errors is not None:
        after = f", calibrated {errors[1]:.3f}" if calibration.count else ""
        lines.append(f"expected calibration error  {errors[0]:.3f}{after}")
    files = [out.with_suffix(".json").name]
    files += [out.with_suffix(".png").name] if classified.accuracy is not None else []
    return "\n".join([*lines, f"written      {out}, with {' and '.join(files)}"])


if __name__ == "__main__":
    with exit_on_broken_pipe():
        main()
