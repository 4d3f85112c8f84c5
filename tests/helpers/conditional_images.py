"""Small data sets with contexts of each kind; each context says which image it belongs to."""

from __future__ import annotations

import numpy as np

from flowpp.config.context_spec import ContextSpec
from flowpp.data import ImageSet
from flowpp.data.derived_contexts import fixed_masks, masked

LEVELS, SIDE = 16, 4
NAMES = ("cat", "dog", "owl")
SPECS = {
    "labels": ContextSpec("labels", "folder", NAMES),
    "vectors": ContextSpec("vectors", "csv", shape=(2,)),
    "images": ContextSpec("images", "folder", shape=(1, SIDE, SIDE)),
    "mask": ContextSpec("images", "mask", shape=(2, SIDE, SIDE)),
}


def conditional_images(kind: str, train: int = 24, test: int = 9) -> ImageSet:
    """Return random grey images: label and vector are computed from the first pixel.

    A context image is the image itself, and a mask hides a part of it.
    """
    rng = np.random.default_rng(0)
    parts = {
        part: rng.integers(LEVELS, size=(count, 1, SIDE, SIDE), dtype=np.uint8)
        for part, count in (("train", train), ("test", test))
    }
    contexts = {part: context_of(kind, images) for part, images in parts.items()}
    return ImageSet(
        f"toy {kind}", parts["train"], parts["test"], LEVELS, context=SPECS[kind],
        contexts=contexts,
    )  # fmt: skip


def context_of(kind: str, images: np.ndarray) -> np.ndarray:
    """Return the contexts of images (N, 1, H, W)."""
    first = images[:, 0, 0, 0]
    if kind == "labels":
        return first.astype(np.int64) % len(NAMES)
    if kind == "vectors":
        return np.stack([first, images[:, 0, 0, 1]], axis=1).astype(np.float32)
    if kind == "images":
        return images.copy()
    return masked(images, fixed_masks(len(images), SIDE, SIDE), LEVELS)
