"""Contexts that `python -m flowpp.sample` draws images for, and the grid of these."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from flowpp.config import DataConfig
from flowpp.config.context_spec import NO_LABEL, ContextSpec
from flowpp.data.archive import LARGEST
from flowpp.data.unsplit import load_all
from flowpp.data.vectors import read_array
from flowpp.evaluation.contexts import label_rows
from flowpp.evaluation.labelled_grids import Panel
from flowpp.evaluation.sample_grids import beside, label_grid
from flowpp.runtime.bounded import open_regular

COUNT = 64
"""Default number of images of a model without contexts, or for one context."""
EACH = 8
"""Default number of images for each of several contexts."""
MOST = 512
"""Images of all classes together above which fewer than `EACH` of a class are the default."""
ALL = "all"
"""Word for the labels of all classes."""


@dataclass(frozen=True, eq=False)
class Wanted:
    """Images to draw.

    Args:
        spec: What the model is conditioned on.
        given: The different contexts (M, ...), None for an unconditional model.
        each: Number of images for each of them, or in all.
        names: Name of each context.
        title: Text about the contexts for the picture's title.
    """

    spec: ContextSpec | None
    given: np.ndarray | None
    each: int
    names: tuple[str, ...] = ()
    title: str = ""

    @property
    def contexts(self) -> np.ndarray | None:
        """A context for each image, those of a row of the grid one after another."""
        return None if self.given is None else self.given.repeat(self.each, axis=0)

    @property
    def count(self) -> int:
        """Number of images."""
        return self.each * (1 if self.given is None else len(self.given))

    def panel(self, images: np.ndarray, levels: int) -> Panel:
        """Return the grid of the images: a row for each context, if there are several."""
        if self.spec is not None and self.spec.kind == "images" and self.given is not None:
            return beside(self.spec, self.given, images, None, levels)
        if self.given is None or len(self.given) == 1:
            return Panel(images)
        return Panel(images, columns=self.each, rows_named=self.names)


def wanted(
    spec: ContextSpec | None,
    count: int | None,
    label: str | None,
    context: Path | None,
    data: DataConfig,
    levels: int,
) -> Wanted:
    """Return the samples that the arguments of the command ask for.

    Args:
        spec: What the model is conditioned on.
        count: Number of images, for each context if there are several.
        label: Name of a class, "none" or "all".
        context: File of an image or of vectors, or a folder of images.
        data: Settings of the training's data: how images are cropped.
        levels: Number of values of a channel.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Arguments that do not fit the model, an unknown label, or a bad file.
    """
    if label is not None:
        label_rows(spec, 0, 0)  # a model of labelled images
    if spec is None or spec.kind == "labels":
        if context is not None:
            kind = "an unconditional one" if spec is None else "one of labelled images: use label"
            raise ValueError(f"context needs a model conditioned on vectors or images, got {kind}")
        if spec is None:
            return Wanted(None, None, count or COUNT)
        return _labelled(spec, count, ALL if label is None else label)
    if context is None:
        raise ValueError(
            f"context must be given, as the model is conditioned on {spec.description}"
        )
    rows = (
        _vectors(context, spec) if spec.kind == "vectors" else _images(context, spec, data, levels)
    )
    names = tuple(str(number) for number in range(1, len(rows) + 1))
    several = len(rows) > 1 or spec.kind == "images"
    return Wanted(spec, rows, count or (EACH if several else COUNT), names, f"of {context.name}")


def _labelled(spec: ContextSpec, count: int | None, label: str) -> Wanted:
    """Return a row of images for each class, or images of one label."""
    if label == ALL and ALL not in spec.names:
        each = count or max(1, min(EACH, MOST // len(spec.names)))
        rows, _ = label_grid(range(len(spec.names)), 1)
        return Wanted(spec, rows, each, spec.names, "of each label")
    rows = label_rows(spec, label, 1)
    title = "without label" if label == NO_LABEL else f"of label {label}"
    return Wanted(spec, rows, count or COUNT, (label,), title)


def _vectors(path: Path, spec: ContextSpec) -> np.ndarray:
    """Read vectors (M, D): an .npy, or a text with one vector a line."""
    (size,) = spec.shape
    rows = read_array(path) if path.suffix == ".npy" else _lines(path, size)
    if rows.shape == (size, 1):  # one vector
        rows = rows.T
    if rows.shape[1:] != (size,) or not np.isfinite(rows).all():
        got = f"shape {rows.shape}" if np.isfinite(rows).all() else "NaN or infinity"
        raise ValueError(f"{path} must have vectors of {size} finite numbers, got {got}")
    return rows


def _lines(path: Path, size: int) -> np.ndarray:
    """Read a text with one vector a line."""
    try:
        with open_regular(path, LARGEST) as file:
            return np.loadtxt(file, np.float32, delimiter=",", ndmin=2)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{path} must be an .npy, or a text of {size} numbers a line with commas between "
            f"them: {error}"
        ) from error


def _images(path: Path, spec: ContextSpec, data: DataConfig, levels: int) -> np.ndarray:
    """Read images of the context's shape (M, K, h, w), converted to its channels."""
    channels, height, width = spec.shape
    if channels not in (1, 3) or spec.source == "mask":
        raise ValueError(
            f"context images must have 1 or 3 channels to be read from files, got {channels}; "
            "python -m flowpp.complete makes the context of a mask from an image"
        )
    config = replace(data, channels=1 if channels == 1 else 3, convert=True)
    return load_all(path, config, (channels, height, width), levels).pixels
