"""Class labels: their order, checks, and numbers for names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from flowpp.config.context_spec import ContextSpec
from flowpp.data.context_arrays import few
from flowpp.data.formats import count_of
from flowpp.data.image_set import LABELS, Part

RESERVED = ("none", "all")
"""Words of the commands: no label, and every label."""


def encode(
    who: str, source: str, names: Mapping[Part, Sequence[str]]
) -> tuple[ContextSpec, dict[Part, np.ndarray]]:
    """Return the description of labels, and the number of each image's label, by part.

    Names are sorted, by value if all are numbers; the number of a label is its place.

    Args:
        who: Origin of the labels, for messages.
        source: folder or csv.
        names: Name of each image's label, by part.

    Raises:
        ValueError: One class only, a reserved name, a class without training images, or as many
            classes as training images.
    """
    counts = Counter(names["train"])
    order = sorted_names(counts)
    _check_names(who, order, len(names["train"]))
    spec = ContextSpec("labels", source, tuple(order))
    for part, given in names.items():
        unknown = Counter(name for name in given if name not in counts)
        if unknown:
            raise ValueError(
                f"{who}: each class must have training images, got none but {LABELS[part]} images "
                f"of {_listed(unknown)}; classes of training images: {few(order)}"
            )
    return spec, {part: numbers_of(spec, given) for part, given in names.items()}


def sorted_names(names: Mapping[str, int] | Sequence[str]) -> list[str]:
    """Return names in order: numbers by their value if all are, and else as texts."""
    if all(_is_number(name) for name in names):
        return sorted(names, key=lambda name: (float(name), name))
    return sorted(names)


def numbers_of(spec: ContextSpec, names: Sequence[str], who: str = "labels") -> np.ndarray:
    """Return the numbers of labels, (N,) int64.

    Raises:
        ValueError: Names that are not among those of the description.
    """
    place = {name: number for number, name in enumerate(spec.names)}
    unknown = Counter(name for name in names if name not in place)
    if unknown:
        raise ValueError(f"{who} must be among {few(spec.names)}; got {_listed(unknown)}")
    return np.array([place[name] for name in names], np.int64)


def class_counts_note(spec: ContextSpec, labels: Mapping[Part, np.ndarray]) -> list[str]:
    """Return a line for each held-out part that has no images of some classes."""
    lines = []
    for part, numbers in labels.items():
        counts = np.bincount(numbers, minlength=len(spec.names))
        absent = [spec.names[i] for i in np.flatnonzero(counts == 0)]
        if absent:
            noun = "class" if len(absent) == 1 else "classes"
            lines.append(f"{len(absent):,} {noun} without {LABELS[part]} images: {few(absent)}")
    return lines


def _check_names(who: str, names: list[str], count: int) -> None:
    """Require at least two classes, shared by images, with names that no command uses."""
    reserved = [name for name in names if name.lower() in RESERVED]
    if reserved:
        raise ValueError(
            f"{who}: {reserved[0]!r} must not be the name of a class: it stands for "
            f"{'no label' if reserved[0].lower() == 'none' else 'every label'}; rename the class"
        )
    if len(names) == 1:
        raise ValueError(
            f"{who}: training images must be of at least two classes, got only {names[0]!r}: "
            "labels would say nothing; train without data.labels"
        )
    if len(names) == count:
        raise ValueError(
            f"{who}: training images must share classes, got {len(names):,} classes of "
            f"{count_of(count, 'training image')}; for numbers use data.context"
        )


def _is_number(name: str) -> bool:
    try:
        return np.isfinite(float(name)).item()
    except ValueError:
        return False


def _listed(counts: Counter[str]) -> str:
    """Return names with their numbers of images, the most frequent first."""
    shown = [f"{name!r} ({count_of(n, 'image')})" for name, n in counts.most_common(5)]
    return few(shown) if len(counts) <= 5 else f"{', '.join(shown)} and {len(counts) - 5:,} more"
