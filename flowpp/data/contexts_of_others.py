"""Contexts of images other than those of a run, in the form that its model needs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from flowpp.config.context_spec import ContextSpec
from flowpp.data.class_folders import known_class_folders
from flowpp.data.class_labels import numbers_of
from flowpp.data.context_arrays import few
from flowpp.data.decoded import in_memory
from flowpp.data.derived_contexts import DERIVED, derive
from flowpp.data.formats import count_of
from flowpp.data.image_files import open_images
from flowpp.data.image_set import ImageSet
from flowpp.data.name_table import examples
from flowpp.data.named_contexts import (
    ARRAYS,
    TABLES,
    existing,
    labels_of_table,
    table_of,
)
from flowpp.data.own_labels import OWN
from flowpp.data.paired_images import PairedImages
from flowpp.data.unsplit import NamedImages, with_levels
from flowpp.data.vectors import check_rows, read_array, vectors_of_table

UNKNOWN = -1
"""Number of the label of an image whose class is not known."""


def labels_of(images: NamedImages, spec: ContextSpec, labels: str = OWN) -> np.ndarray:
    """Return the number of each image's label, (N,) int64; -1 where it is not known.

    Args:
        images: The images.
        spec: Labels of the model.
        labels: folder, for the uppermost folder around an image that has a class's name or for
            labels in the file of the images; or the path of a CSV file, which need not have all
            images.

    Raises:
        FileNotFoundError: No such file.
        ValueError: A malformed file, lines about no image, or classes that the model has not.
    """
    if labels == OWN:
        named = known_class_folders(images.files.where, images.paths, spec.names)
        if not any(named):
            named = _own_labels(images, spec)
        place = {name: number for number, name in enumerate(spec.names)}
        return np.array([UNKNOWN if n is None else place[n] for n in named], np.int64)
    table = table_of(images.files, Path(labels).expanduser())
    present = [path for path in images.paths if path in table.rows]
    numbers = np.full(len(images.paths), UNKNOWN, np.int64)
    if present:
        names, _ = labels_of_table(table, present)
        rows = [row for row, path in enumerate(images.paths) if path in table.rows]
        numbers[rows] = numbers_of(spec, names, f"labels in {labels}")
    return numbers


def _own_labels(images: NamedImages, spec: ContextSpec) -> list[str | None]:
    """Return the labels in the file of the images, if it has some, all of the model's classes."""
    try:
        own = images.files.labels(images.paths)
    except (TypeError, ValueError):  # images without labels are as good here
        own = None
    known = set(spec.names)
    return [name if name in known else None for name in own or [""] * len(images.paths)]


def with_contexts(
    images: NamedImages,
    spec: ContextSpec | None,
    labels: Path | None = None,
    context: Path | None = None,
) -> ImageSet:
    """Return images as a data set, with labels by their folders or contexts that are computed.

    Args:
        images: The images.
        spec: Contexts of the model; None for an unconditional one.
        labels: CSV of image and class, instead of the folders.
        context: Vectors in a file, or a folder of images of the same names.

    Raises:
        ValueError: An image without a class, contexts that need a file, or a file that the model
            has no use for.
    """
    of_labels = spec is not None and spec.kind == "labels"
    computed = spec is not None and spec.source in DERIVED
    for name, path, used in (
        ("labels", labels, of_labels),
        ("context", context, spec is not None and not of_labels and not computed),
    ):
        if path is not None and not used:
            kind = "an unconditional model" if spec is None else f"a model of {spec.description}"
            raise ValueError(f"{name} must be left out for {kind}, got {path}")
    if spec is None:
        return images.as_image_set()
    if spec.kind != "labels":
        found = contexts_of(images, spec, None if context is None else str(context))
        return images.as_image_set(spec, found)
    numbers = labels_of(images, spec, OWN if labels is None else str(labels))
    unknown = [images.paths[row] for row in np.flatnonzero(numbers == UNKNOWN)]
    if unknown:
        raise ValueError(
            f"{images.files.where} must have its images in folders of the model's classes, "
            f"{few(spec.names)}, got {len(unknown):,} of "
            f"{count_of(len(images.paths), 'image')} in others: {examples(unknown)}; "
            "--labels FILE.csv names the class of each, --label none evaluates without"
        )
    return images.as_image_set(spec, numbers)


def contexts_of(images: NamedImages, spec: ContextSpec, context: str | None = None) -> np.ndarray:
    """Return the vectors or image contexts of images.

    Args:
        images: The images.
        spec: Contexts of the model: vectors or images.
        context: Path of their contexts, as `data.context`; unused for contexts that are computed
            from the image, of which masks are those of the images' indices.

    Returns:
        (N, D) float32, or (N, K, h, w) of the type of the images.

    Raises:
        FileNotFoundError: No such file.
        ValueError: No path where one is needed, or contexts of another form.
    """
    if spec.kind == "images" and spec.source in DERIVED:
        factor = images.pixels.shape[2] // spec.shape[1]
        return derive(images.pixels, images.levels, spec.source, factor)
    if context is None:
        raise ValueError(
            f"images must have {spec.kind} from a file or folder, as those of the training have, "
            "got none"
        )
    path = existing(context)
    if spec.kind == "images":
        contexts = open_images(path)
        pairs = PairedImages(images.files, contexts, images.paths, images.target, skip_bad=False)
        _, arrays = pairs.arrays({"test": images.paths}, in_memory)
        found = with_levels(arrays["test"], images.levels, str(path))
    elif path.suffix.lower() in TABLES:
        found = vectors_of_table(table_of(images.files, path), images.paths, spec.names)
    elif path.suffix.lower() in ARRAYS[:1]:
        listed = images.files.listing.images
        vectors = read_array(path)
        check_rows(str(path), vectors, len(listed), "sorted by path")
        place = {image: row for row, image in enumerate(listed)}
        found = vectors[[place[image] for image in images.paths]]
    else:
        raise ValueError(f"vectors must be in a CSV or .npy, got {path}")
    if found.shape[1:] != spec.shape:
        raise ValueError(
            f"{path} must have {spec.kind} of shape {spec.shape}, as in the training, got "
            f"{found.shape[1:]}"
        )
    return found
