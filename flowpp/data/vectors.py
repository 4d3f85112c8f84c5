"""Vectors that images are conditioned on, from CSV files and arrays."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from flowpp.config.context_spec import ContextSpec
from flowpp.data import npz
from flowpp.data.archive import LARGEST
from flowpp.data.context_arrays import few
from flowpp.data.formats import count_of
from flowpp.data.image_set import Part
from flowpp.data.name_table import Row, Table, is_number
from flowpp.runtime.bounded import brief, open_regular

SUFFIXES = (".csv", ".tsv", ".txt", ".npy", ".npz")
LARGEST_LOSS = 0.01
"""Largest error by rounding to float32, in standard deviations of a column."""
NOISE = 1e-12
"""Deviation over mean up to which a column counts as constant: rounding errors of float64."""
ARRAY = "{}_context"
"""Name of the array of a part's vectors in an `.npz`."""


def spec_of_vectors(source: str, vectors: np.ndarray, names: Sequence[str] = ()) -> ContextSpec:
    """Return the description of vectors (N, D).

    Args:
        source: csv or array.
        vectors: The vectors.
        names: Names of the columns, if they are known and differ.
    """
    distinct = len(set(names)) == len(names) == vectors.shape[1]
    return ContextSpec(
        "vectors", source, tuple(names) if distinct else (), (int(vectors.shape[1]),)
    )


def vectors_of_table(
    table: Table,
    images: Sequence[PurePosixPath],
    names: Sequence[str] = (),
    *,
    training: bool = False,
) -> np.ndarray:
    """Return the numbers of images in a table, (N, D) float32.

    Args:
        table: The table.
        images: The images.
        names: Columns in the order in which they are needed; if empty, or if the table has no
            header, all in its order.
        training: Whether they are to train on; then columns must differ in float32.

    Raises:
        ValueError: Images without a row, missing columns, cells that are not finite numbers, or
            columns whose differences float32 does not resolve.
    """
    rows = table.of(images, "vector")
    columns = list(range(len(rows[0].cells)))
    if names and table.columns:
        missing = [name for name in names if name not in table.columns]
        if missing:
            raise ValueError(
                f"{table.path} must have the columns {few(names)}, got none for {few(missing)}"
            )
        columns = [table.columns.index(name) for name in names]
    for row in rows:
        for place in columns:
            if not is_number(row.cells[place]) or not math.isfinite(float(row.cells[place])):
                raise _cell_error(table, row, place)
    numbers = np.array([[float(row.cells[place]) for place in columns] for row in rows])
    return _as_float32(numbers, str(table.path), resolved=training)


def _cell_error(table: Table, row: Row, place: int) -> ValueError:
    """Return the error for a cell without a finite number."""
    column = f"column {table.columns[place]!r}" if table.columns else f"column {place + 2}"
    texts = sum(not is_number(other.cells[place]) for other in table.rows.values())
    hint = f"; {texts:,} of {len(table.rows):,} cells there are no numbers" if texts else ""
    return ValueError(
        f"{table.path}: line {row.line}, {column} must be a finite number, got "
        f"{row.cells[place]!r}{hint}"
    )


def read_array(path: Path, *, training: bool = False) -> np.ndarray:
    """Return the vectors of all images in an `.npy`, (N, D) float32; (N,) becomes (N, 1).

    Args:
        path: The file.
        training: See `vectors_of_table`.

    Raises:
        FileNotFoundError: A missing file.
        TypeError: Values that are not numbers.
        ValueError: A damaged file, another shape, NaN or infinity, or columns whose differences
            float32 does not resolve.
    """
    try:
        with open_regular(path, LARGEST) as file:
            if file.read(6) != np.lib.format.MAGIC_PREFIX:
                raise ValueError("it does not begin as one")
            file.seek(0)
            array = np.load(file, allow_pickle=False)
    except (FileNotFoundError, PermissionError):
        raise
    except Exception as error:  # a damaged file may raise nearly anything
        raise ValueError(f"{path} must be an .npy of numbers: {brief(error)}") from error
    return _checked(array, str(path), resolved=training)


def read_arrays(path: Path, parts: Sequence[Part]) -> dict[Part, np.ndarray]:
    """Return the arrays `train_context`, `test_context` ... of an `.npz`, as `read_array`.

    Raises:
        FileNotFoundError, TypeError, ValueError: As `read_array`; also a missing array.
    """
    wanted = {part: ARRAY.format(part) for part in parts}
    present = npz.names(path)
    missing = [name for name in wanted.values() if name not in present]
    if missing:
        raise ValueError(
            f"{path} must have arrays {' and '.join(wanted.values())} for data.context, got "
            f"{', '.join(sorted(present)) or 'none'}"
        )
    arrays = npz.read(path, wanted.values())
    return {
        part: _checked(arrays[name], f"{path}: {name}", resolved=part == "train")
        for part, name in wanted.items()
    }


def check_rows(who: str, vectors: np.ndarray, count: int, order: str) -> None:
    """Require a row for each image.

    Args:
        who: Origin of the vectors, for the message.
        vectors: (N, D).
        count: Number of images.
        order: Order of the rows, likewise.

    Raises:
        ValueError: Another number.
    """
    if len(vectors) != count:
        raise ValueError(
            f"{who} must have a row for each of {count_of(count, 'image')}, {order}, got "
            f"{count_of(len(vectors), 'row')}"
        )


def same_width(who: str, vectors: Mapping[Part, np.ndarray]) -> None:
    """Require vectors of the same length in each part; raises ValueError."""
    widths = {part: array.shape[1] for part, array in vectors.items()}
    if len(set(widths.values())) > 1:
        raise ValueError(f"{who} must have vectors of the same length in each part, got {widths}")


def _checked(array: np.ndarray, who: str, *, resolved: bool) -> np.ndarray:
    if array.dtype.kind not in "iufb":
        raise TypeError(f"{who} must be numbers, got {array.dtype}")
    array = array[:, None] if array.ndim == 1 else array
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"{who} must be vectors of shape (N, D), got {array.shape}")
    return _as_float32(array, who, resolved=resolved)


def _as_float32(array: np.ndarray, who: str, *, resolved: bool) -> np.ndarray:
    with np.errstate(over="ignore"):
        vectors = np.ascontiguousarray(array, np.float32)
    wrong = np.argwhere(~np.isfinite(vectors))
    if len(wrong):
        row, column = wrong[0]
        raise ValueError(
            f"{who} must be finite in float32, got {array[row, column]} in row {row}, column "
            f"{column}, and {len(wrong) - 1:,} others"
        )
    if resolved:
        _check_resolved(array, vectors, who)
    return vectors


def _check_resolved(array: np.ndarray, vectors: np.ndarray, who: str) -> None:
    """Refuse columns that vary, but of which rounding to float32 leaves little."""
    exact = array.astype(np.float64)
    lost = np.abs(exact - vectors).max(axis=0)
    mean, deviation = exact.mean(axis=0), exact.std(axis=0)
    varies = deviation > NOISE * np.abs(mean)
    wrong = np.flatnonzero(varies & (lost > LARGEST_LOSS * deviation))
    if len(wrong):
        column = int(wrong[0])
        raise ValueError(
            f"{who} must differ by more than float32 resolves, got mean {mean[column]:.9g} and "
            f"deviation {deviation[column]:.3g} in column {column}: subtract a constant from it"
        )
