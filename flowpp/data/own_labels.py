"""Labels that a data set has itself: arrays beside those of the images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from flowpp.config import DataConfig
from flowpp.data import npz
from flowpp.data.class_labels import class_counts_note, encode
from flowpp.data.image_set import ImageSet, Part
from flowpp.data.label_arrays import NAMES, named, names_in

OWN = "folder"
"""Word of `data.labels` for the labels that come with the images."""


def with_labels(
    images: ImageSet, config: DataConfig, names: Mapping[Part, Sequence[str]]
) -> ImageSet:
    """Return the data set with its labels.

    Args:
        images: The data set.
        config: Settings with `labels`.
        names: Name of each image's label, by part.

    Raises:
        ValueError: Labels from a file, which needs a folder of images; another number of labels
            than of images; or labels that `encode` refuses.
    """
    if config.labels != OWN:
        raise ValueError(
            f"data.labels must be {OWN} for {config.source}, which has its own, got "
            f"{config.labels!r}; labels in a file are by file name, for data.source folder"
        )
    counts = {part: len(given) for part, given in names.items()}
    if counts != images.counts:
        raise ValueError(
            f"{images.name} must have a label for each image, got {counts} labels for "
            f"{images.counts} images"
        )
    spec, labels = encode(images.name, OWN, names)
    notes = (*images.notes, *class_counts_note(spec, labels))
    return replace(images, context=spec, contexts=labels, notes=notes)


def labels_in(
    path: Path, arrays: Mapping[Part, str], classes: Sequence[str] | None = None
) -> dict[Part, list[str]]:
    """Return the names of the labels in an `.npz`.

    Args:
        path: The file.
        arrays: Name of the array of images by part; that of the labels ends in _labels.
        classes: Names of labels 0, 1, ... unless the file has an array `label_names`.

    Raises:
        ValueError: No labels, or labels of another kind.
    """
    present = npz.names(path)
    wanted = [f"{name}_labels" for name in arrays.values()]
    missing = [name for name in wanted if name not in present]
    if missing:
        raise ValueError(
            f"{path} must have {' and '.join(wanted)} for data.labels {OWN}, got "
            f"{', '.join(sorted(present))}"
        )
    found = npz.read(path, [*wanted, *([NAMES] if NAMES in present else [])])
    names = names_in(found[NAMES], f"{path}: {NAMES}") if NAMES in found else classes
    return {
        part: named(names_in(found[f"{name}_labels"], f"{path}: {name}_labels"), names,
                    f"{path}: {name}_labels")
        for part, name in arrays.items()
    }  # fmt: skip
