"""Contexts of the images that a conditional model is evaluated on."""

from __future__ import annotations

import numpy as np

from flowpp.config.context_spec import ContextSpec
from flowpp.data import ImageSet
from flowpp.data.image_set import Part
from flowpp.evaluation.contexts import label_rows
from flowpp.evaluation.given_contexts import check_none_is_trained, listed
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
    contexts = own_contexts(images, part, spec)
    return None if contexts is None else contexts[:count]


def own_contexts(images: ImageSet, part: Part, spec: ContextSpec | None) -> np.ndarray | None:
    """Return the contexts of all images of a part; None for an unconditional model.

    Raises:
        ValueError: Images without the contexts that the model needs, or with others, such as
            classes of other names.
    """
    if spec is None:
        return None
    contexts = images.context_of(part)
    if contexts is None or not spec.means(images.context):
        got = "none" if images.context is None else _described(images.context)
        raise ValueError(f"images of {images.name} must have {_described(spec)}, got {got}")
    return contexts


def _described(spec: ContextSpec) -> str:
    named = f" ({listed(spec.names)})" if spec.names else ""
    return spec.description + named
