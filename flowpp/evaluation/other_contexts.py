"""Contexts of images other than those of a run, or one label for all of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from flowpp.config.context_spec import ContextSpec
from flowpp.data import contexts_of_others
from flowpp.data.contexts_of_others import UNKNOWN, labels_of
from flowpp.data.derived_contexts import DERIVED
from flowpp.data.own_labels import OWN
from flowpp.data.unsplit import NamedImages
from flowpp.evaluation.given_contexts import label_index, needed


def contexts_of(
    images: NamedImages,
    spec: ContextSpec | None,
    *,
    label: str | None = None,
    labels: Path | None = None,
    context: Path | None = None,
) -> np.ndarray | None:
    """Return the context of each image; None for an unconditional model.

    Args:
        images: the images.
        spec: contexts of the model.
        label: of all images, "none" included.
        labels: CSV of image and class; without, see `labels_of`.
        context: vectors in a CSV or .npy, or a folder of images of the same names.

    Raises:
        FileNotFoundError: no such file.
        ValueError: an image without a context, or contexts that the model is not for.
    """
    kind = "no contexts" if spec is None else spec.kind
    if kind != "labels" and (label is not None or labels is not None):
        raise ValueError(f"label and labels need a model of labels, got one of {kind}")
    if context is not None and (spec is None or spec.kind == "labels" or spec.source in DERIVED):
        got = kind if spec is None or spec.kind == "labels" else f"{spec.source} images"
        raise ValueError(
            f"context needs a model of vectors or of a second folder of images, got one of {got}"
        )
    if spec is None:
        return None
    if spec.kind != "labels":
        if context is None and spec.source not in DERIVED:
            raise ValueError(f"images need {needed(spec)}: give --context PATH, got none")
        path = None if context is None else str(context)
        return contexts_of_others.contexts_of(images, spec, path)
    if label is not None:
        return np.full(len(images.names), label_index(label, spec), np.int64)
    found = labels_of(images, spec, OWN if labels is None else str(labels))
    missing = np.flatnonzero(found == UNKNOWN)
    if len(missing):
        raise ValueError(
            f"images need {needed(spec)}: give --label NAME or --labels FILE.csv, or put them "
            f"into folders called like their classes; got none for {len(missing)} of "
            f"{len(found)} images, the first: {images.names[missing[0]]}"
        )
    return found
