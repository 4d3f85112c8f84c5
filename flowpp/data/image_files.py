"""Images by name, wherever they lie: below a folder, in an archive, or in an array."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from flowpp.data.decode import Source
from flowpp.data.listing import Listing, list_folder


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


def open_images(path: Path) -> ImageFiles:
    """Open a folder, or a file of images, by its content.

    Raises:
        FileNotFoundError: Nothing there.
        ValueError: A file of another kind.
    """
    if path.is_dir():
        return FolderFiles.open(path)
    raise FileNotFoundError(f"folder: {path} is not a folder")
