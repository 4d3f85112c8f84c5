"""Tables with a line for each image, in CSV files: file name first, then labels or numbers."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from flowpp.data.formats import count_of, suffixes
from flowpp.data.listing import printable
from flowpp.runtime.bounded import FileError, brief, read_bounded

LARGEST = 1 << 30
"""Upper bound on the size of a table, in bytes."""
DELIMITERS = ",;\t"
FILE_COLUMN = re.compile(
    r"(image|img|file|picture|photo)?[ _-]?(file)?[ _-]?(name|path|id|key)?s?", re.IGNORECASE
)
"""Usual names of the column of file names."""
TRIED = 20
"""Rows in which a column of file names is looked for."""
FIRST = 3
"""Examples in a message."""


@dataclass(frozen=True)
class Row:
    """A line of a table: its number in the file, and its cells without outer spaces."""

    line: int
    cells: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """A table whose rows have been matched with images.

    Args:
        path: The file.
        columns: Names of the columns after that of the file names; empty without a header.
        rows: Cells after the file name, by image.
    """

    path: Path
    columns: tuple[str, ...]
    rows: dict[PurePosixPath, Row]

    def of(self, images: Iterable[PurePosixPath], what: str) -> list[Row]:
        """Return the rows of images in their order.

        Args:
            images: The images.
            what: What a row holds, for messages: label or context.

        Raises:
            ValueError: Images without a row.
        """
        images = list(images)
        missing = [image for image in images if image not in self.rows]
        if missing:
            raise ValueError(
                f"{self.path} must have a {what} for each image, got none for "
                f"{len(missing):,} of {count_of(len(images), 'image')}, such as "
                f"{examples(missing)}"
            )
        return [self.rows[image] for image in images]


def read_table(path: Path, where: str, known: Sequence[PurePosixPath]) -> Table:
    """Read a CSV file, separated by commas, semicolons or tabs, and match its lines with images.

    A file name may have the image's folders or the last of them or none, and its suffix or none.
    The first line is a header if it names no image and is unlike the other lines.

    Args:
        path: The file, in UTF-8.
        where: Folder or archive of the images, for messages and absolute paths.
        known: Relative paths of all its images and other files.

    Raises:
        FileNotFoundError: A missing file.
        ValueError: Another kind of file, lines of different lengths, names of no image or of
            several, or different lines for one image.
    """
    rows = _read_rows(path)
    index = _NameIndex(where, known)
    header, rows = _split_header(rows, index)
    if header is not None and (place := _file_column(header, rows, index)):
        header, rows = _moved(header, place), [_moved(row, place) for row in rows]
    found: dict[PurePosixPath, Row] = {}
    unknown: list[Row] = []
    for row in rows:
        name, values = row.cells[0], Row(row.line, row.cells[1:])
        images = index.find(name)
        if len(images) > 1:
            raise ValueError(
                f"{path}: line {row.line}: {printable(name)!r} must name one image of {where}, "
                f"got {len(images)}: {examples(images)}"
            )
        if not images:
            unknown.append(row)
            continue
        former = found.setdefault(images[0], values)
        if former.cells != values.cells:
            raise ValueError(
                f"{path}: lines {former.line} and {row.line} must say the same of "
                f"{printable(images[0])}, got {', '.join(former.cells)} and "
                f"{', '.join(values.cells)}"
            )
    if unknown:
        raise _unknown_error(path, where, unknown, len(rows), known)
    return Table(path, () if header is None else header.cells[1:], found)


def examples(images: Sequence[PurePosixPath]) -> str:
    """Return the names of the first images."""
    more = ", ..." if len(images) > FIRST else ""
    return ", ".join(printable(image) for image in images[:FIRST]) + more


def _unknown_error(
    path: Path, where: str, unknown: list[Row], count: int, known: Sequence[PurePosixPath]
) -> ValueError:
    """Return the error for lines that name no image."""
    names = ", ".join(f"{row.cells[0]!r} (line {row.line})" for row in unknown[:FIRST])
    more = ", ..." if len(unknown) > FIRST else ""
    hint = ""
    if len(unknown) == count and known:
        hint = (
            f"; images are named such as {printable(known[0])}, in the first column or one "
            "whose header is file"
        )
    return ValueError(
        f"{path}: each line must name an image of {where}, got {len(unknown):,} of "
        f"{count_of(count, 'line')} that name none: {names}{more}{hint}"
    )


def _file_column(header: Row, rows: list[Row], index: _NameIndex) -> int:
    """Return the column of a usual name in which most of the first rows name an image."""
    usual = [i for i, name in enumerate(header.cells) if _is_file_column(name)]

    def matches(place: int) -> int:
        return sum(bool(index.find(row.cells[place])) for row in rows[:TRIED])

    return max(usual, key=matches, default=0)


def _is_file_column(name: str) -> bool:
    return bool(name and FILE_COLUMN.fullmatch(name))


def _moved(row: Row, place: int) -> Row:
    """Move a cell to the beginning."""
    cells = row.cells
    return Row(row.line, (cells[place], *cells[:place], *cells[place + 1 :]))


def _read_rows(path: Path) -> list[Row]:
    """Return the rows that are not empty.

    Raises:
        FileNotFoundError, ValueError: See `read_table`.
    """
    try:
        text = read_bounded(path, LARGEST).decode("utf-8-sig")
    except FileError as error:
        raise ValueError(str(error)) from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} must be text in UTF-8, got other bytes: {error}") from error
    rows: list[Row] = []
    line = 1
    try:
        reader = csv.reader(
            io.StringIO(text, newline=""), delimiter=_delimiter_of(text), strict=True
        )
        for cells in reader:
            line = reader.line_num
            if any(cell.strip() for cell in cells):
                rows.append(Row(line, tuple(cell.strip() for cell in cells)))
    except csv.Error as error:
        raise ValueError(f"{path}: near line {line}: {brief(error)}") from error
    if not rows or len(rows[0].cells) < 2:
        got = "an empty file" if not rows else f"{rows[0].cells[0][:60]!r} alone"
        raise ValueError(
            f"{path} must have lines of a file name and a value, separated by commas, semicolons "
            f"or tabs, got {got}"
        )
    width = len(rows[0].cells)
    odd = next((row for row in rows if len(row.cells) != width), None)
    if odd is not None:
        raise ValueError(
            f"{path}: line {odd.line} must have {width} cells as the first, got {len(odd.cells)}"
        )
    return rows


def _delimiter_of(text: str) -> str:
    """Return the mark that divides the first line into most cells."""
    first = [next((line for line in text.splitlines() if line.strip()), "")]

    def cells(mark: str) -> int:
        return len(next(csv.reader(first, delimiter=mark), ()))

    return max(DELIMITERS, key=cells)


def _split_header(rows: list[Row], index: _NameIndex) -> tuple[Row | None, list[Row]]:
    """Return the header, if there is one, and the other rows.

    A line about an image that is missing must not be taken for a header: a header contains no file
    name with a suffix, and its other cells are texts that do not recur in the rows below.
    """
    head, *others = rows
    if not others or any(index.find(cell) for cell in head.cells):
        return None, rows
    if any(map(_is_file_column, head.cells)):
        return head, others
    again = any(cell == row.cells[i] for i, cell in enumerate(head.cells) if i for row in others)
    is_file = PurePosixPath(head.cells[0]).suffix.lower() in suffixes()
    if again or is_file or any(is_number(cell) for cell in head.cells[1:]):
        return None, rows
    return head, others


def is_number(text: str) -> bool:
    """Return whether a text is a number, NaN and infinity included."""
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text


class _NameIndex:
    """Images by their names.

    Args:
        where: Folder or archive of the images.
        known: Relative paths of all images.
    """

    def __init__(self, where: str, known: Sequence[PurePosixPath]) -> None:
        self.where = _normal(PurePosixPath(where.replace("\\", "/")))
        self.full: dict[str, list[PurePosixPath]] = {}
        self.last: dict[str, list[PurePosixPath]] = {}
        for image in known:
            path = _normal(image)
            for name in dict.fromkeys((str(path), str(stem_of(path)))):
                self.full.setdefault(name, []).append(image)
            for name in dict.fromkeys((path.name, stem_of(path).name)):
                self.last.setdefault(name, []).append(image)

    def find(self, text: str) -> list[PurePosixPath]:
        """Return the images that a text names: one, none, or several if it is ambiguous."""
        if not text:
            return []
        name = _normal(PurePosixPath(text.replace("\\", "/")))
        if name.is_absolute():
            if not name.is_relative_to(self.where):
                return []
            name = name.relative_to(self.where)
        return self._named(name) or self._named(self._inside(name))

    def _named(self, name: PurePosixPath | None) -> list[PurePosixPath]:
        if name is None or not name.parts:
            return []
        whole = self.full.get(str(name), [])
        if whole:
            return whole
        parts = name.parts
        return [
            image
            for image in self.last.get(name.name, [])
            if _normal(image).parts[-len(parts) : -1] == parts[:-1]
        ]

    def _inside(self, name: PurePosixPath) -> PurePosixPath | None:
        """Return the name without a first part that is the name of the images' folder."""
        if len(name.parts) > 1 and name.parts[0] == self.where.name:
            return PurePosixPath(*name.parts[1:])
        return None


def stem_of(path: PurePosixPath) -> PurePosixPath:
    """Return a path without the suffix of its file, if it is one of images."""
    return path.with_suffix("") if path.suffix.lower() in suffixes() else path


def _normal(path: PurePosixPath) -> PurePosixPath:
    """Return a path in composed Unicode: some systems list file names decomposed."""
    text = str(path)
    return path if text.isascii() else PurePosixPath(unicodedata.normalize("NFC", text))
