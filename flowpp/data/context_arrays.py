"""Arrays of contexts, one an image: checks, and a line that describes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from flowpp.config.context_spec import ContextSpec
from flowpp.data.formats import count_of

SHOWN = 10
"""Names in a line."""


def check_contexts(
    who: str,
    spec: ContextSpec | None,
    contexts: Mapping[Any, np.ndarray],
    counts: Mapping[Any, int],
    images: np.ndarray,
    levels: int,
) -> None:
    """Require contexts of the described form, one for each image of each part.

    Args:
        who: Name of the data set, for messages.
        spec: Their description; None for no contexts.
        contexts: Arrays by part.
        counts: Number of images by part.
        images: Images (N, C, H, W), of whose type image contexts are.
        levels: Number of values of a channel, of image contexts too.

    Raises:
        TypeError: An array of another type.
        ValueError: Missing or surplus contexts, another shape, or values out of range.
    """
    expected = [] if spec is None else list(counts)
    if sorted(contexts) != sorted(expected):
        raise ValueError(f"{who} must have contexts of {expected}, got those of {list(contexts)}")
    if spec is None:
        return
    for part, count in counts.items():
        name, array = f"{who}: contexts of {part} images", contexts[part]
        _check_form(name, spec, array, count, images)
        if spec.kind == "labels" and not (0 <= array.min() and array.max() < len(spec.names)):
            raise ValueError(
                f"{name} must lie in 0 ... {len(spec.names) - 1}, got {array.min()} ... "
                f"{array.max()}"
            )
        if spec.kind == "images" and array.max() >= levels:
            raise ValueError(f"{name} must lie in 0 ... {levels - 1}, got {array.max()}")
        if spec.kind == "vectors" and not np.isfinite(array).all():
            raise ValueError(f"{name} must be finite, got NaN or infinity")


def _check_form(
    name: str, spec: ContextSpec, array: np.ndarray, count: int, images: np.ndarray
) -> None:
    """Require an array of the right type and shape."""
    dtype = {"labels": np.dtype(np.int64), "vectors": np.dtype(np.float32), "images": images.dtype}
    if not isinstance(array, np.ndarray) or array.dtype != dtype[spec.kind]:
        got = getattr(array, "dtype", type(array).__name__)
        raise TypeError(f"{name} must be a NumPy array of {dtype[spec.kind]}, got {got}")
    if array.shape != (count, *spec.shape):
        raise ValueError(f"{name} must have shape {(count, *spec.shape)}, got {array.shape}")
    if spec.kind == "images":
        sides, inner = images.shape[2:], spec.shape[1:]
        factors = {side // part for side, part in zip(sides, inner, strict=True)}
        whole = all(side % part == 0 for side, part in zip(sides, inner, strict=True))
        if not whole or len(factors) > 1:
            raise ValueError(
                f"{name} must have the images' {sides[0]}x{sides[1]} pixels or a whole factor "
                f"fewer a side, got {inner[0]}x{inner[1]}"
            )


def context_line(spec: ContextSpec, contexts: Mapping[Any, np.ndarray]) -> str:
    """Return a line such as "labels      10 classes: 0, 1, ...; 143 ... 155 train images each".

    Args:
        spec: Description of the contexts.
        contexts: Arrays by part.
    """
    if spec.kind == "labels":
        each = [f"{_counts(spec, labels)} {part}" for part, labels in contexts.items()]
        text = f"{len(spec.names):,} classes: {few(spec.names)}; {', '.join(each)} images each"
    elif spec.kind == "vectors":
        named = f": {few(spec.names)}" if spec.names else ""
        text = (
            f"vectors of {count_of(spec.shape[0], 'number')}{named}, from the {spec.source} file"
        )
    else:
        channels, height, width = spec.shape
        text = f"{spec.source} images, {count_of(channels, 'channel')}, {height}x{width} pixels"
    return f"{'labels' if spec.kind == 'labels' else 'context':<11} {text}"


def _counts(spec: ContextSpec, labels: np.ndarray) -> str:
    """Return the least and the largest number of images of a class."""
    counts = np.bincount(labels, minlength=len(spec.names))
    least, most = counts.min(), counts.max()
    return f"{least:,}" if least == most else f"{least:,} ... {most:,}"


def few(names: Sequence[str]) -> str:
    """Return the first names, and how many there are besides."""
    more = f", ... ({len(names) - SHOWN:,} more)" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
