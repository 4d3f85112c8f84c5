"""Contexts of conditional models: rows of arrays as tensors, and contexts without an image."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from flowpp.config.context_spec import ContextSpec
from flowpp.evaluation.given_contexts import label_index
from flowpp.runtime.image_tensors import image_tensor


def check_contexts(contexts: np.ndarray | None, count: int) -> None:
    """Require a row for each image; None passes.

    That a conditional model has contexts, and that their values fit, is checked by the model.

    Raises:
        TypeError: Not a NumPy array.
        ValueError: Another number of rows.
    """
    if contexts is None:
        return
    if not isinstance(contexts, np.ndarray):
        raise TypeError(f"contexts must be a NumPy array, got {type(contexts).__name__}")
    if contexts.ndim == 0 or len(contexts) != count:
        rows = len(contexts) if contexts.ndim else "a single number"
        raise ValueError(f"contexts must have a row for each of the {count} images, got {rows}")


def context_tensor(contexts: np.ndarray, like: Tensor) -> Tensor:
    """Return contexts as a model's third argument: on the device of `like`, vectors in its dtype.

    Args:
        contexts: Rows of `ImageSet.contexts`.
        like: Tensor of the model.
    """
    tensor = image_tensor(contexts)
    return tensor.to(like) if tensor.is_floating_point() else tensor.to(like.device)


def blank_contexts(spec: ContextSpec | None, count: int) -> tuple[np.ndarray, ...]:
    """Return contexts of the right form: labels 0, or zeros; none for an unconditional model."""
    if spec is None:
        return ()
    dtype = {"labels": np.int64, "vectors": np.float32, "images": np.uint8}[spec.kind]
    return (np.zeros((count, *spec.shape), dtype),)


def label_rows(spec: ContextSpec | None, label: str | int, count: int) -> np.ndarray:
    """Return one label, by its name or index, for all images.

    Raises:
        ValueError: A model that is not conditioned on labels, or an unknown label; the message has
            the nearest name, and the list.
    """
    return np.full(count, label_index(label, _labelled(spec)), np.int64)


def _labelled(spec: ContextSpec | None) -> ContextSpec:
    """Require a model that is conditioned on labels."""
    if spec is None or spec.kind != "labels":
        got = "an unconditional one" if spec is None else f"one conditioned on {spec.description}"
        raise ValueError(f"a label needs a model of labelled images, got {got}")
    return spec
