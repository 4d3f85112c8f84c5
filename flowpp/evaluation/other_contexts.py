"""Contexts of images other than those of a run: from files or the images themselves."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np

from flowpp.config.command_line import warn
from flowpp.config.context_spec import ContextSpec
from flowpp.data import unsplit
from flowpp.data.class_labels import numbers_of
from flowpp.data.decoded import in_memory
from flowpp.data.derived_contexts import derive
from flowpp.data.image_set import Part
from flowpp.data.listing import printable
from flowpp.data.named_contexts import find_contexts, find_labels
from flowpp.data.unsplit import NamedImages, target_of_model, with_levels
from flowpp.evaluation.given_contexts import label_index, needed
from flowpp.runs.open_model import OpenedModel

UNKNOWN = -1
"""Label of an image whose class is not known."""
DERIVED = ("grey", "low-resolution", "mask")
"""Sources of contexts that are computed from the image."""


def contexts_of(
    where: Path,
    images: NamedImages,
    opened: OpenedModel,
    *,
    label: str | None = None,
    labels: Path | None = None,
    context: Path | None = None,
) -> np.ndarray | None:
    """Return the context of each image; None for an unconditional model.

    Args:
        where: folder or file of the images.
        images: the images in it.
        opened: the model.
        label: of all images, "none" included.
        labels: CSV of image and class; without, the images' folders are called like the classes.
        context: vectors in a CSV, .npy or .npz, or a folder of images of the same names.

    Raises:
        FileNotFoundError: no such file.
        ValueError: an image without a context, or contexts that the model is not for.
    """
    spec: ContextSpec | None = opened.model.context_spec
    kind = "no contexts" if spec is None else spec.kind
    if kind != "labels" and (label is not None or labels is not None):
        raise ValueError(f"label and labels need a model of labels, got one of {kind}")
    if kind in ("labels", "no contexts") and context is not None:
        raise ValueError(f"context needs a model of vectors or images, got one of {kind}")
    if spec is None:
        return None
    if spec.kind != "labels":
        if context is None:
            return derived(images.pixels, spec, images.levels)
        return _of_file(where, images, opened, spec, context)
    if label is not None:
        return np.full(len(images.names), label_index(label, spec), np.int64)
    truth = class_of_each(where, images.names, spec, labels)
    missing = np.flatnonzero(truth == UNKNOWN)
    if len(missing):
        raise ValueError(
            f"images need {needed(spec)}: give --label NAME or --labels FILE.csv, or put them "
            f"into folders called like their classes; got none for {len(missing)} of "
            f"{len(truth)} images, the first: {images.names[missing[0]]}"
        )
    return truth


def _of_file(
    where: Path, images: NamedImages, opened: OpenedModel, spec: ContextSpec, context: Path
) -> np.ndarray:
    """Return vectors of a file, or images of another folder."""
    files = unsplit.opened(where.expanduser())
    paths = {printable(path): path for path in files.listing.images}
    parts: dict[Part, list[PurePosixPath]] = {"test": [paths[name] for name in images.names]}
    data = replace(opened.config.data, labels=None, context=str(context))
    target = target_of_model(data, opened.image_shape, images.levels)
    found = find_contexts(files, parts, data, target)
    if found is None:
        raise ValueError(f"context must be a file or a folder, got {context}")
    own, arrays = found.arrays(parts, in_memory)
    if (own.kind, own.shape) != (spec.kind, spec.shape):
        raise ValueError(
            f"{context} must have {spec.description} for each image, as the model was trained "
            f"with, got {own.description}"
        )
    array = arrays["test"]
    return with_levels(array, images.levels, str(context)) if own.kind == "images" else array


def derived(images: np.ndarray, spec: ContextSpec, levels: int) -> np.ndarray:
    """Compute the contexts of images (N, C, H, W); masks are those of the images' indices.

    Raises:
        ValueError: contexts of another source.
    """
    if spec.source not in DERIVED:
        raise ValueError(
            f"contexts must be given by --context, got none: the model is of {spec.kind} that are "
            f"not computed from the image, but come from a {spec.source}"
        )
    return derive(images, levels, spec.source, images.shape[2] // spec.shape[1])


def class_of_each(
    where: Path, names: Sequence[str], spec: ContextSpec, labels: Path | None = None
) -> np.ndarray:
    """Return the class of each image, int64 (N,); -1 if unknown.

    It is that of a CSV; without one, that which a file of images has itself; or else that of the
    innermost folder, `where` included, that is called like a class.

    Args:
        where: folder or file of the images.
        names: paths of the images in it.
        spec: description of the labels.
        labels: CSV of image and class.

    Raises:
        FileNotFoundError: no such CSV.
        ValueError: a CSV that misses images or has others, or names no class of the model.
    """
    files = unsplit.opened(where.expanduser())
    paths = {printable(path): path for path in files.listing.images}
    images = [paths[name] for name in names]
    if labels is not None:
        named = find_labels(files, images, str(labels)).names
        return numbers_of(spec, [named[image] for image in images], str(labels))
    place = {_normal(name): index for index, name in enumerate(spec.names)}
    try:
        own = files.labels(images)
    except (ValueError, TypeError) as error:  # an array of images need not have labels beside it
        warn(f"classes of the images are unknown: {error}")
        return np.full(len(images), UNKNOWN, np.int64)
    if own is not None:
        return np.array([place.get(_normal(name), UNKNOWN) for name in own], np.int64)

    def of_folder(image: PurePosixPath) -> int:
        folders = [where.resolve().name, *image.parts[:-1]]
        known = [place[folder] for folder in map(_normal, folders) if folder in place]
        return known[-1] if known else UNKNOWN

    return np.array([of_folder(image) for image in images], np.int64)


def _normal(name: str) -> str:
    """Return a name in the form in which systems that decompose letters have it, too."""
    return unicodedata.normalize("NFC", name)
