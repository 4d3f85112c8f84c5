"""Images with the true classes of those whose class is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from flowpp.data import ImageSet
from flowpp.data.contexts_of_others import UNKNOWN, labels_of
from flowpp.data.formats import count_of
from flowpp.data.own_labels import OWN
from flowpp.evaluation.given_contexts import listed
from flowpp.evaluation.other_images import load_other
from flowpp.runs.open_model import OpenedModel


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images with their classes.

    Args:
        data: name and hash of the data.
        pixels: (N, C, H, W), integers 0 ... levels - 1.
        names: one for each image.
        truth: index of each image's class, -1 if unknown.
        left_out: reason by name for each file without an image.
        notes: lines for the user on how the images were read.
    """

    data: ImageSet
    pixels: np.ndarray
    names: Sequence[str]
    truth: np.ndarray
    left_out: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def held_out(data: ImageSet, opened: OpenedModel) -> LabelledImages:
    """Return the test images of a run's data with their labels.

    Raises:
        ValueError: other classes than the model's.
    """
    names = opened.model.context_spec.names
    truth = data.context_of("test")
    if truth is None or data.context is None or data.context.names != names:
        got = "no labels" if data.context is None else listed(data.context.names)
        raise ValueError(f"{data.name} must have the model's classes {listed(names)}, got {got}")
    return LabelledImages(data, data.test, [f"test/{i}" for i in range(len(truth))], truth)


def in_folder(
    path: Path,
    opened: OpenedModel,
    *,
    labels: Path | None = None,
    channels: int | None = None,
    skip_bad: bool = False,
) -> LabelledImages:
    """Load all images of a folder or file, with the classes that their folders or a CSV name.

    Raises:
        FileNotFoundError, ValueError: see `load_other` and `labels_of`.
    """
    images = load_other(path, opened, channels=channels, skip_bad=skip_bad)
    where = OWN if labels is None else str(labels)
    truth = labels_of(images, opened.model.context_spec, where)
    known = int((truth != UNKNOWN).sum())
    notes = images.notes
    if 0 < known < len(truth):
        first = images.names[int(np.argmax(truth == UNKNOWN))]
        unknown = count_of(len(truth) - known, "image")
        notes = (*notes, f"{unknown} of unknown class, the first: {first}")
    return LabelledImages(
        images.as_image_set(), images.pixels, images.names, truth, images.left_out(), notes
    )
