"""Contexts of the images of a folder or file, found by the images' names."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Protocol

import numpy as np

from flowpp.config import DataConfig
from flowpp.config.context_spec import ContextSpec
from flowpp.data.class_folders import class_folders
from flowpp.data.class_labels import class_counts_note, encode
from flowpp.data.context_arrays import few
from flowpp.data.decoded import Allocate, in_memory
from flowpp.data.derived_contexts import DERIVED
from flowpp.data.duplicates import conflicts_note
from flowpp.data.fit import Target
from flowpp.data.formats import count_of
from flowpp.data.image_files import ImageFiles, open_images
from flowpp.data.image_set import Part
from flowpp.data.name_table import Table, read_table
from flowpp.data.own_labels import OWN
from flowpp.data.paired_images import PairedImages
from flowpp.data.vectors import (
    check_rows,
    read_array,
    read_arrays,
    same_width,
    spec_of_vectors,
    vectors_of_table,
)

TABLES = (".csv", ".tsv", ".txt")
ARRAYS = (".npy", ".npz")
LABEL_COLUMN = re.compile(r"(class|label|category|target)([ _-]?(name|id))?s?", re.IGNORECASE)
"""Usual names of the column of labels."""
Images = Mapping[Part, Sequence[PurePosixPath]]


class NamedContexts(Protocol):
    """Contexts that can be looked up."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Lines for the user."""

    def arrays(
        self, images: Images, allocate: Allocate
    ) -> tuple[ContextSpec, dict[Part, np.ndarray]]:
        """Return the contexts of images by part, and their description.

        Raises:
            ValueError: They do not fit the images.
        """


@dataclass(frozen=True)
class NamedLabels:
    """Labels by image.

    Args:
        who: Their origin, for messages.
        source: folder or csv.
        names: Name of the label of each image.
        notes: Lines for the user.
    """

    who: str
    source: str
    names: Mapping[PurePosixPath, str]
    notes: tuple[str, ...] = ()

    def arrays(
        self, images: Images, allocate: Allocate
    ) -> tuple[ContextSpec, dict[Part, np.ndarray]]:
        named = {part: [self.names[image] for image in chosen] for part, chosen in images.items()}
        return encode(self.who, self.source, named)


@dataclass(frozen=True)
class NamedVectors:
    """Vectors by image.

    Args:
        spec: Their description.
        vectors: (N, D).
        rows: Row of each image.
        notes: Lines for the user.
    """

    spec: ContextSpec
    vectors: np.ndarray
    rows: Mapping[PurePosixPath, int]
    notes: tuple[str, ...] = ()

    def arrays(
        self, images: Images, allocate: Allocate
    ) -> tuple[ContextSpec, dict[Part, np.ndarray]]:
        return self.spec, {
            part: self.vectors[[self.rows[image] for image in chosen]]
            for part, chosen in images.items()
        }


def context_notes(
    named: NamedContexts, spec: ContextSpec, contexts: Mapping[Part, np.ndarray], train: np.ndarray
) -> list[str]:
    """Return lines on where contexts come from, and on classes that are few or contradictory.

    Args:
        named: The contexts of all images.
        spec: Description of those of images that were not skipped.
        contexts: These by part.
        train: Training images (N, C, H, W).
    """
    notes = list(named.notes)
    if isinstance(named, NamedLabels):
        skipped = sorted(set(named.names.values()) - set(spec.names))
        if skipped:
            notes.append(f"no classes, since their images are skipped: {few(skipped)}")
        notes += class_counts_note(spec, contexts)
        notes += conflicts_note(train, contexts["train"])
    return notes


def find_contexts(
    files: ImageFiles, images: Images, config: DataConfig, target: Target
) -> NamedContexts | None:
    """Find the contexts that the settings ask for; None if they are computed from the pixels.

    Args:
        files: The images.
        images: Those that are used, by part.
        config: Settings of the data set.
        target: Form that the images are fitted to.

    Raises:
        FileNotFoundError: A missing file.
        TypeError: Values of another type.
        ValueError: Missing, surplus, unknown or malformed contexts.
    """
    used = list(chain.from_iterable(images.values()))
    if config.labels is not None:
        found = find_labels(files, used, config.labels)
        found.arrays(images, in_memory)  # before the images are decoded, which takes longer
        return found
    if config.context is None or config.derived_context is not None:
        return None
    path = existing(config.context)
    if path.suffix.lower() in TABLES and path.is_file():
        return _vectors_by_name(files, used, path)
    if path.suffix.lower() in ARRAYS and path.is_file():
        return _vectors_in_order(files, images, path)
    return PairedImages(files, open_images(path), used, target, skip_bad=config.skip_bad)


def find_labels(files: ImageFiles, images: Sequence[PurePosixPath], labels: str) -> NamedLabels:
    """Return the name of the label of each image.

    Args:
        files: The images.
        images: Those that are used.
        labels: `data.labels`: folder, or the path of a CSV file.

    Raises:
        FileNotFoundError: A missing file.
        ValueError: Images without a label, or labels without an image.
    """
    if labels == OWN:
        own, notes = files.labels(images), tuple[str, ...]()
        if own is None:
            own, notes = class_folders(files.where, images, files.listing.images)
        named = dict(zip(images, own, strict=True))
        return NamedLabels(f"labels of {files.where}", OWN, named, notes)
    path = Path(labels).expanduser()
    if path.suffix.lower() not in TABLES or not path.is_file():
        close = "; did you mean 'folder'?" if difflib.get_close_matches(labels, [OWN]) else ""
        error = ValueError if path.exists() else FileNotFoundError
        reason = "" if path.exists() else ", where nothing is"
        raise error(f"data.labels must be folder or a CSV file, got {labels!r}{reason}{close}")
    table = table_of(files, path)
    names, column = labels_of_table(table, images)
    note = f"labels from {path}, {column}"
    return NamedLabels(str(path), "csv", dict(zip(images, names, strict=True)), (note,))


def labels_of_table(table: Table, images: Sequence[PurePosixPath]) -> tuple[list[str], str]:
    """Return the labels of images in a table, and the column that they are in, in words.

    Raises:
        ValueError: Images without a label, or several columns that may be meant.
    """
    column = _label_column(table)
    rows = table.of(images, "label")
    empty = [row.line for row in rows if not row.cells[column]]
    if empty:
        raise ValueError(
            f"{table.path} must have a label for each image, got an empty one in "
            f"{count_of(len(empty), 'line')}: {few([str(line) for line in empty])}"
        )
    words = f"column {table.columns[column]!r}" if table.columns else "without a header"
    return [row.cells[column] for row in rows], words


def existing(context: str) -> Path:
    """Return the path of `data.context`.

    Raises:
        FileNotFoundError: Nothing there.
    """
    path = Path(context).expanduser()
    if not path.exists():
        words = difflib.get_close_matches(
            context.lower().replace("_", "-"), [*DERIVED, "gray"], n=1
        )
        near = {"gray": "grey"}.get(words[0], words[0]) if words else ""
        hint = f"; did you mean {near!r}?" if near else ""
        raise FileNotFoundError(
            f"data.context must be grey, low-resolution N, mask or a path, got {context!r}, where "
            f"nothing is{hint}"
        )
    return path


def files_of_contexts(config: DataConfig) -> list[Path]:
    """Return the files on disk that contexts are read from."""
    if config.labels not in (None, OWN):
        return [path] if (path := Path(str(config.labels)).expanduser()).is_file() else []
    if config.context is None or config.derived_context is not None:
        return []
    path = existing(config.context)
    if path.suffix.lower() in (*TABLES, *ARRAYS) and path.is_file():
        return [path]
    contexts = open_images(path)
    return contexts.paths(contexts.listing.images)


def table_of(files: ImageFiles, path: Path) -> Table:
    """Read a table about the images of a folder; other files beside them may be in it too."""
    return read_table(path, files.where, [*files.listing.images, *files.listing.others])


def _label_column(table: Table) -> int:
    """Return the column of labels."""
    width = len(next(iter(table.rows.values())).cells)
    if width == 1:
        return 0
    found = [i for i, name in enumerate(table.columns) if LABEL_COLUMN.fullmatch(name)]
    exact = [i for i in found if table.columns[i].lower() == "label"] or found
    if len(exact) != 1:
        got = f"columns {few(table.columns)}" if table.columns else f"{width} columns unnamed"
        raise ValueError(
            f"{table.path} must have one column of labels beside the file names, or a header that "
            f"names it label, got {got}"
        )
    return exact[0]


def _vectors_by_name(
    files: ImageFiles, images: Sequence[PurePosixPath], path: Path
) -> NamedVectors:
    table = table_of(files, path)
    vectors = vectors_of_table(table, images, training=True)
    rows = {image: row for row, image in enumerate(images)}
    return NamedVectors(spec_of_vectors("csv", vectors, table.columns), vectors, rows)


def _vectors_in_order(files: ImageFiles, images: Images, path: Path) -> NamedVectors:
    if path.suffix.lower() == ".npy":
        vectors, listed = read_array(path, training=True), files.listing.images
        check_rows(str(path), vectors, len(listed), f"all those of {files.where} sorted by path")
        rows = {image: row for row, image in enumerate(listed)}
        note = f"rows of {path} belong to the images in the order of their paths"
        return NamedVectors(spec_of_vectors("array", vectors), vectors, rows, (note,))
    arrays = read_arrays(path, list(images))
    same_width(str(path), arrays)
    for part, chosen in images.items():
        check_rows(f"{path}: {part}_context", arrays[part], len(chosen), "sorted by path")
    order = list(chain.from_iterable(images.values()))
    vectors = np.concatenate([arrays[part] for part in images])
    rows = {image: row for row, image in enumerate(order)}
    return NamedVectors(spec_of_vectors("array", vectors), vectors, rows)
