"""Images by name, wherever they lie: below a folder, in an archive, or in an array."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

import numpy as np

from flowpp.data.archive import OPENERS, member_limit
from flowpp.data.arrays import read_npy, read_npz, read_safetensors, read_torch
from flowpp.data.decode import Source
from flowpp.data.listing import Listing, list_folder
from flowpp.data.packed import TarFiles, ZipFiles
from flowpp.data.parquet import ParquetFiles
from flowpp.data.zip_archive import open_zip
from flowpp.runtime.bounded import brief

CONTENTS = (
    "a folder of images, or a file of them: zip, tar, .npy, .npz, .pt, .safetensors or .parquet"
)
TAR_MAGIC_AT = 257
LONGEST_MAGIC = TAR_MAGIC_AT + 5


class ImageFiles(Protocol):
    """Images that can be listed and read."""

    @property
    def name(self) -> str:
        """Name of the data set."""

    @property
    def where(self) -> str:
        """Location, for messages."""

    @property
    def listing(self) -> Listing:
        """All images, and the number of other files."""

    def who(self, image: PurePosixPath) -> str:
        """Return the name of one image, for messages."""

    def paths(self, images: Sequence[PurePosixPath]) -> list[Path]:
        """Return the files on disk that hold the chosen images."""

    def read(self, images: Sequence[PurePosixPath]) -> Iterator[tuple[PurePosixPath, Source]]:
        """Yield the chosen images, in any order."""

    def labels(self, images: Sequence[PurePosixPath]) -> list[str] | None:
        """Return the names of the chosen images' labels; None if only folders may say them.

        Raises:
            TypeError, ValueError: Labels are missing where they belong, or of another kind.
        """


@dataclass(frozen=True)
class FolderFiles:
    """Image files below a folder."""

    folder: Path
    listing: Listing

    @classmethod
    def open(cls, folder: Path) -> FolderFiles:
        """List a folder."""
        return cls(folder, list_folder(folder))

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def where(self) -> str:
        return str(self.folder)

    def who(self, image: PurePosixPath) -> str:
        return str(self.folder / image)

    def paths(self, images: Sequence[PurePosixPath]) -> list[Path]:
        return [self.folder / image for image in images]

    def read(self, images: Sequence[PurePosixPath]) -> Iterator[tuple[PurePosixPath, Source]]:
        for image in images:
            yield image, self.folder / image

    def labels(self, images: Sequence[PurePosixPath]) -> None:
        return None


def open_images(path: Path) -> ImageFiles:
    """Open a folder, or a file of images, by its content.

    Raises:
        FileNotFoundError: Nothing there.
        TypeError, ValueError: A damaged file, one without images, or one of another kind.
    """
    if path.is_dir():
        return _open_folder(path)
    if not path.exists():
        raise FileNotFoundError(f"folder: {path} is not a folder, and no file of that name exists")
    if not path.is_file():
        raise ValueError(f"folder: {path} must be a folder or a file of images")
    if path.suffix.lower() == ".safetensors":
        return read_safetensors(path)
    with path.open("rb") as file:
        start = file.read(LONGEST_MAGIC)
    if start.startswith(b"PAR1"):
        return ParquetFiles.open(path)
    if start.startswith(np.lib.format.MAGIC_PREFIX):
        return read_npy(path)
    if start.startswith(b"PK"):
        return _open_zip(path)
    if start.startswith(tuple(OPENERS)) or start[TAR_MAGIC_AT:].startswith(b"ustar"):
        return TarFiles.open(path)
    raise ValueError(f"folder: {path} must be {CONTENTS}, got another kind of file")


def _open_folder(folder: Path) -> ImageFiles:
    """Open a folder of images, or of parquet files if it has no images."""
    files = FolderFiles.open(folder)
    if files.listing.images or not files.listing.unread[".parquet"]:
        return files
    packed = tuple(name for name in files.listing.others if name.suffix.lower() == ".parquet")
    others = tuple(name for name in files.listing.others if name not in set(packed))
    return ParquetFiles.open(folder, [folder / name for name in packed], others)


def _open_zip(path: Path) -> ImageFiles:
    """Open a zip archive: arrays of NumPy or torch, or image files."""
    try:
        with open_zip(path, member_limit(path)) as packed:
            names = packed.namelist()
    except OSError:
        raise
    except Exception as error:  # a damaged archive may raise nearly anything
        raise ValueError(f"folder: {path} is a damaged zip archive: {brief(error)}") from error
    if names and all(name.endswith(".npy") for name in names):
        return read_npz(path)
    if any(name.endswith("/data.pkl") for name in names):
        return read_torch(path)
    return ZipFiles.open(path)
