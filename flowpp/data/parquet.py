"""Images in parquet files, as the data sets of Hugging Face store them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from flowpp.data.archive import LARGEST, member_limit
from flowpp.data.decode import Source
from flowpp.data.label_arrays import named, names_in
from flowpp.data.listing import Listing
from flowpp.data.npz import MAX_RATIO
from flowpp.runtime.bounded import brief, check_regular, parse_json

BATCH, BATCH_BYTES = 64, 256 << 20
"""Upper bounds on the rows that are in memory at a time, and on their bytes if there are many."""
SMALL_BYTES = 1 << 30
"""Unpacked size that is always accepted."""
LABEL_NAMES = (
    "label", "labels", "class", "target", "category", "fine_label", "coarse_label", "label_name",
)  # fmt: skip
LABEL_ROWS = 1 << 16
"""Labels that are read at a time."""
USUAL_NAMES = ("image", "img", "images", "picture", "photo", "jpg", "png")


@dataclass(frozen=True)
class ParquetFiles:
    """Images in the rows of parquet files.

    Rows of `train-00000-of-00002.parquet` are listed as train/0/0, train/0/1 ..., so that they are
    split as files are; those of a single file as 0, 1 ....

    Args:
        location: The file, or the folder of the files.
        shards: Files, by the folder that their rows are listed in.
        listing: Names of all images.
    """

    location: Path
    shards: dict[PurePosixPath, Path]
    listing: Listing

    @classmethod
    def open(
        cls,
        location: Path,
        files: Sequence[Path] | None = None,
        others: tuple[PurePosixPath, ...] = (),
    ) -> ParquetFiles:
        """List the rows of a file, or of the files of a folder.

        Args:
            location: The file, or the folder.
            files: Parquet files of the folder.
            others: Files of other kinds in the folder, relative to it.

        Raises:
            ValueError: A damaged file, or pyarrow is not installed.
        """
        if files is None:
            shards = {PurePosixPath(): location}
        else:
            shards = {_listed_in(location, file, i): file for i, file in enumerate(files)}
        names = [
            folder / f"{row:08}"
            for folder, file in shards.items()
            for row in range(_row_count(file))
        ]
        return cls(location, shards, Listing(tuple(names), others))

    @property
    def name(self) -> str:
        return self.location.stem

    @property
    def where(self) -> str:
        return str(self.location)

    def who(self, image: PurePosixPath) -> str:
        return f"row {int(image.name)} of {self.shards[image.parent]}"

    def paths(self, images: Sequence[PurePosixPath]) -> list[Path]:
        return list(self.shards.values())

    def read(self, images: Sequence[PurePosixPath]) -> Iterator[tuple[PurePosixPath, Source]]:
        wanted = set(images)
        for folder, file in self.shards.items():
            if any(image.parent == folder for image in wanted):
                for row, content in enumerate(_rows(file)):
                    if (image := folder / f"{row:08}") in wanted:
                        yield image, content

    def labels(self, images: Sequence[PurePosixPath]) -> list[str]:
        found = {folder: label_column(file) for folder, file in self.shards.items()}
        return [found[image.parent][int(image.name)] for image in images]


def _listed_in(location: Path, file: Path, number: int) -> PurePosixPath:
    """Return the folder that a shard's rows are listed in, such as data/train/0."""
    relative = PurePosixPath(file.relative_to(location).as_posix())
    split = re.sub(r"-\d+-of-\d+.*$", "", relative.stem)
    return relative.parent / split / str(number)


def _row_count(path: Path) -> int:
    rows, limit = _opened(path).metadata.num_rows, member_limit(path)
    if not 0 <= rows <= limit:
        raise ValueError(f"{path} must have at most {limit:,} rows, got {rows:,}")
    return int(rows)


def _batch_size(file: Any, path: Path) -> int:
    """Return the number of rows that are in memory at a time.

    A value that a row group holds once may stand in all of its rows.

    Raises:
        ValueError: The file unpacks to more than a hundred times its size.
    """
    groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
    sizes = [max(0, group.total_byte_size) for group in groups]
    total, limit = sum(sizes), max(SMALL_BYTES, MAX_RATIO * path.stat().st_size)
    if total > limit:
        raise ValueError(f"it must unpack to at most {limit:,} bytes, got {total:,}")
    return max(1, min(BATCH, BATCH_BYTES // max([1, *sizes])))


def _opened(path: Path) -> Any:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise ValueError(f"reading {path} needs pyarrow: pip install 'flowpp[parquet]'") from error
    try:
        check_regular(path, LARGEST)
        return parquet.ParquetFile(path)
    except PermissionError:
        raise
    except Exception as error:  # a damaged file may raise nearly anything
        raise ValueError(f"{path} is a damaged parquet file: {brief(error)}") from error


def label_column(path: Path) -> list[str]:
    """Return the names of the labels in the rows of a file.

    Integers are named by what the data sets of Hugging Face write beside the columns, if it is
    there.

    Raises:
        ValueError: No column of labels, several, or rows without a label.
    """
    file = _opened(path)
    names = file.schema_arrow.names
    usual = [name for name in names if name.lower() in LABEL_NAMES]
    chosen = [name for name in usual if name.lower() == "label"] or usual
    if len(chosen) != 1:
        raise ValueError(
            f"{path} must have one column of labels, such as label, got "
            f"{' and '.join(chosen) or 'none'} among {', '.join(names)}"
        )
    try:
        batches = file.iter_batches(batch_size=LABEL_ROWS, columns=chosen)
        values = [value for batch in batches for value in batch.column(0).to_pylist()]
        classes = _class_names(file.schema_arrow, chosen[0])
    except Exception as error:  # as in `_opened`
        raise ValueError(f"{path} is a damaged parquet file: {brief(error)}") from error
    who = f"{path}: {chosen[0]}"
    missing = next((row for row, value in enumerate(values) if value is None), None)
    if missing is not None:
        raise ValueError(f"{who} must have a label in each row, got none in row {missing}")
    return named(names_in(np.array(values), who), classes, who)


def _class_names(schema: Any, column: str) -> list[str] | None:
    """Return the names of classes 0, 1, ... in the metadata of Hugging Face's data sets."""
    facts = (schema.metadata or {}).get(b"huggingface")
    if facts is None:
        return None
    feature = parse_json(facts).get("info", {}).get("features", {}).get(column, {})
    names = feature.get("names") if feature.get("_type") == "ClassLabel" else None
    return None if names is None else [str(name) for name in names]


def _rows(path: Path) -> Iterator[bytes]:
    file = _opened(path)
    column = _image_column(file.schema_arrow, path)
    try:
        for batch in file.iter_batches(batch_size=_batch_size(file, path), columns=[column]):
            for scalar in batch.column(0):
                value = scalar.as_py()
                content = value.get("bytes") if isinstance(value, dict) else value
                if not isinstance(content, bytes):
                    kind = type(content).__name__
                    raise ValueError(f"{column} must hold the bytes of images, got {kind}")
                yield content
    except Exception as error:  # as in `_opened`
        raise ValueError(f"{path} is a damaged parquet file: {brief(error)}") from error


def _image_column(schema: Any, path: Path) -> str:
    """Return the column of images: bytes, or a structure with a field `bytes`."""
    import pyarrow

    def has_bytes(kind: Any) -> bool:
        if pyarrow.types.is_struct(kind):
            return any(field.name == "bytes" and has_bytes(field.type) for field in kind)
        return pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind)

    found = [field.name for field in schema if has_bytes(field.type)]
    usual = [name for name in found if name.lower() in USUAL_NAMES]
    chosen = found if len(found) == 1 else usual
    if len(chosen) != 1:
        raise ValueError(
            f"{path} must have one column of image files, bytes or with a field bytes, such as "
            f"image; got {', '.join(found) or 'none'} among {', '.join(schema.names)}"
        )
    return chosen[0]
