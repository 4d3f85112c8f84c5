"""Contexts of the images that a conditional model is evaluated on."""

from __future__ import annotations

import numpy as np

from flowpp.data import ImageSet
from flowpp.data.image_set import Part
from flowpp.evaluation.contexts import label_rows
from flowpp.evaluation.given_contexts import check_none_is_trained
from flowpp.runs.open_model import OpenedModel


def part_contexts(
    images: ImageSet, part: Part, count: int, opened: OpenedModel, label: str | None = None
) -> np.ndarray | None:
    """Return the contexts of the first images of a part; None for an unconditional model.

    Args:
        images: The data set.
        part: Training, validation or test images.
        count: Number of images.
        opened: The model.
        label: Name of a class or "none", for all images instead of their own.

    Raises:
        ValueError: A label for a model without labels, or an unknown one; images without the
            contexts that the model needs, or with others.
    """
    spec = opened.model.context_spec
    if label is not None:
        rows = label_rows(spec, label, count)
        check_none_is_trained(rows, spec, opened.config.training.label_dropout)
        return rows
    if spec is None:
        return None
    contexts = images.context_of(part)
    if contexts is None or images.context != spec:
        got = "none" if images.context is None else images.context.description
        raise ValueError(f"images of {images.name} must have {spec.description}, got {got}")
    return contexts[:count]
