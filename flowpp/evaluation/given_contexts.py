"""Contexts as users give them: labels by name or index, vectors and images, checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flowpp.config.context_spec import AXES, NO_LABEL, ContextSpec
from flowpp.config.mistakes import nearest
from flowpp.evaluation.given_images import tensor_of
from flowpp.runtime.image_checks import check_same_device, comparable

LISTED = 20
"""Largest number of names that a message lists."""


def checked_contexts(
    context: Any, spec: ContextSpec | None, count: int, like: Tensor, *, levels: int
) -> Tensor | None:
    """Return one context per image as a tensor on the device of `like`, or None without any.

    Gradients with respect to vectors and images of a floating-point type are kept.

    Args:
        context: one context for all images, or an array, list or tensor of one per image. Labels
            are names, "none" included, or indices.
        spec: contexts of the model; None for an unconditional one.
        count: number of images.
        like: tensor of the model's dtype and device.
        levels: number of values of a channel of the images.

    Raises:
        TypeError: a context of another type.
        ValueError: no context for a conditional model, any for an unconditional one, or unknown
            labels, another shape, number, device or values; the message says what is needed.
    """
    if spec is None:
        if context is not None:
            raise ValueError("context must be None: this model was trained without, got one")
        return None
    if context is None:
        raise ValueError(f"images need {needed(spec)}, got context=None")
    if spec.kind == "labels":
        labels = label_indices(context, spec, count)
        return torch.from_numpy(labels).to(like.device)
    values = _numbers(context, spec, count)
    if isinstance(context, Tensor):
        check_same_device(values, like.device, "contexts")
    else:
        values = values.to(like.device)
    if spec.kind == "images":
        _check_levels(values, levels)
        if spec.source == "mask":
            _check_masks(values, levels)
    elif not torch.isfinite(values).all():
        raise ValueError("contexts must be finite numbers, got NaN or infinity")
    values = values.to(like.dtype)
    return values.expand(count, *spec.shape)


def needed(spec: ContextSpec) -> str:
    """Describe the contexts, as in "a label each, one of: cat, dog, or none"."""
    if spec.kind == "labels":
        return f"a label each, one of: {listed(spec.names)}, or {NO_LABEL}"
    if spec.kind == "vectors":
        names = f" ({listed(spec.names)})" if spec.names else ""
        return f"a vector of {spec.shape[0]} numbers each{names}"
    return f"an image of shape {tuple(spec.shape)} each as context ({spec.source})"


def listed(names: Sequence[str]) -> str:
    """Return names in one line, the first of many."""
    shown = ", ".join(names[:LISTED])
    return shown if len(names) <= LISTED else f"{shown} ... ({len(names)} in all)"


def label_indices(labels: Any, spec: ContextSpec, count: int) -> np.ndarray:
    """Return labels, names or indices, one for all or one per image, as int64 `(count,)`.

    Raises:
        TypeError: labels that are neither names nor integers.
        ValueError: an unknown label, or another number of labels.
    """
    if isinstance(labels, Tensor):
        labels = labels.detach().cpu().numpy()
    array = np.asarray(labels)
    if array.ndim > 1 or (array.ndim == 1 and len(array) != count):
        raise ValueError(
            f"labels must be one for all images or one per image, ({count},), got shape "
            f"{array.shape}"
        )
    indices = [label_index(label, spec) for label in array.reshape(-1).tolist()]
    return np.broadcast_to(np.array(indices, np.int64), (count,)).copy()


def label_index(label: Any, spec: ContextSpec) -> int:
    """Return the index of a label: a name, "none", or an index itself.

    Raises:
        TypeError: neither a name nor an integer.
        ValueError: an unknown name, or an index outside 0 ... number of classes.
    """
    if isinstance(label, str):
        if label in spec.names:
            return spec.names.index(label)
        if label == NO_LABEL:
            return spec.none_label
        hint = nearest(label, [*spec.names, NO_LABEL])
        raise ValueError(
            f"label must be one of: {listed(spec.names)}, or {NO_LABEL}, got {label!r}{hint}"
        )
    if isinstance(label, bool) or not isinstance(label, int):
        raise TypeError(f"label must be a name or an integer, got {label!r}")
    if not 0 <= label <= spec.none_label:
        raise ValueError(f"labels must lie in 0 ... {spec.none_label}, got {label}")
    return label


def label_name(index: int, spec: ContextSpec) -> str:
    """Return the name of a label's index."""
    return NO_LABEL if index == spec.none_label else spec.names[index]


def _numbers(context: Any, spec: ContextSpec, count: int) -> Tensor:
    """Return vectors or images as a tensor of one context, or of one per image."""
    if isinstance(context, str):
        raise TypeError(f"contexts must be {needed(spec)}, got the text {context!r}")
    values = tensor_of(context, "contexts")
    if values.is_complex() or values.dtype == torch.bool:
        raise TypeError(f"contexts must be real numbers, got {values.dtype}")
    shape = tuple(spec.shape)
    one = values.ndim == AXES[spec.kind] and tuple(values.shape) == shape
    each = tuple(values.shape) == (count, *shape)
    if not (one or each):
        raise ValueError(
            f"contexts must have shape {shape} for all images, or {(count, *shape)} for one per "
            f"image, got {tuple(values.shape)}"
        )
    return values


def _check_levels(values: Tensor, levels: int) -> None:
    """Require values of image contexts within the levels."""
    compared = comparable(values.detach())
    valid = (compared >= 0) & (compared <= levels - 1)
    if not valid.all():
        got = compared[~valid][0].item()
        raise ValueError(f"values of contexts must lie in 0 ... {levels - 1}, got {got}")
    if levels > 2 and compared.is_floating_point() and bool((compared <= 1).all()):
        # Fractions alone are no mistake: interpolated contexts have them.
        if bool((compared != compared.round()).any()):
            raise ValueError(
                f"values of contexts must lie in 0 ... {levels - 1}, got fractions in [0, 1]: "
                f"multiply them by {levels - 1}"
            )


def check_none_is_trained(labels: Any, spec: ContextSpec | None, label_dropout: float) -> None:
    """Require that a model was trained without labels, too, if the label "none" is used.

    Args:
        labels: indices, an array or a tensor, or None.
        spec: contexts of the model.
        label_dropout: probability of the label "none" in training.

    Raises:
        ValueError: the label "none" of a model that never saw it.
    """
    if spec is None or spec.kind != "labels" or label_dropout > 0:
        return
    if labels is not None and bool((labels == spec.none_label).any()):
        raise ValueError(
            f"label {NO_LABEL!r} needs a model trained with training.label_dropout above 0, got 0"
        )


def _check_masks(values: Tensor, levels: int) -> None:
    """Require a last channel of 0 where a pixel is hidden and levels - 1 where it is visible.

    Hidden pixels are 0: the model must not see them.
    """
    mask = comparable(values.detach())[..., -1, :, :]
    other = (mask != 0) & (mask != levels - 1)
    if other.any():
        raise ValueError(
            f"the mask, the last channel of contexts, must be 0 where hidden and {levels - 1} "
            f"where visible, got {mask[other][0].item()}"
        )
    leaked = comparable(values.detach())[..., :-1, :, :] * (mask == 0).unsqueeze(-3) != 0
    if leaked.any():
        raise ValueError(
            f"hidden pixels of contexts must be 0, got others in {int(leaked.sum())} places"
        )
