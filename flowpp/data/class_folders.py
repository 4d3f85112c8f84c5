"""Classes of images by the folders that they lie in."""

from __future__ import annotations

import os.path
import unicodedata
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from flowpp.data.context_arrays import few
from flowpp.data.formats import count_of
from flowpp.data.listing import printable
from flowpp.data.name_table import examples
from flowpp.data.splits import split_folders

Folders = tuple[str, ...]


def class_folders(
    where: str, images: Sequence[PurePosixPath], listed: Sequence[PurePosixPath]
) -> tuple[list[str], tuple[str, ...]]:
    """Return the class of each image, and lines for the user.

    It is the name of the uppermost folder that is neither one of the split, such as train, nor
    around all images.

    Args:
        where: Name of the folder or archive, for messages.
        images: Relative paths of the images that are used.
        listed: Relative paths of all images, which the folders of the split are found by.

    Raises:
        ValueError: Images outside class folders.
    """
    folders = _without_split(where, images, listed)
    common = len(os.path.commonprefix(folders))
    inner = [parts[common:] for parts in folders]
    if not any(inner):
        if not common:
            raise ValueError(
                f"data.labels folder needs class folders in {where}, such as cat/1.png, got "
                f"{examples(images)}; data.labels FILE.csv takes labels from a table"
            )
        return [_name(parts[-1]) for parts in folders], ()
    outside = [image for image, parts in zip(images, inner, strict=True) if not parts]
    if outside:
        classes = sorted({_name(parts[0]) for parts in inner if parts})
        raise ValueError(
            f"{where} must have all images in class folders, {few(classes)}, got "
            f"{len(outside):,} of {count_of(len(images), 'image')} outside them: "
            f"{examples(outside)}"
        )
    deeper = sum(len(parts) > 1 for parts in inner)
    note = f"{count_of(deeper, 'image')} in folders inside class folders, of the outer one's class"
    return [_name(parts[0]) for parts in inner], (note,) if deeper else ()


def known_class_folders(
    where: str, images: Sequence[PurePosixPath], names: Sequence[str]
) -> list[str | None]:
    """Return the class of each image: the uppermost folder around it that has a class's name.

    Folders of a split, such as train, do not count, as in `class_folders`.

    Args:
        where: Path of the folder or archive, which may be a class folder itself.
        images: Relative paths.
        names: Names of the classes.

    Returns:
        Names, None for images in no such folder.
    """
    known, own = set(names), _name(Path(where).resolve().name)
    try:
        around = _without_split(where, images, images)
    except ValueError:  # images outside the split
        around = [image.parts[:-1] for image in images]

    def of(folders: Folders) -> str | None:
        return next((name for name in (*map(_name, folders), own) if name in known), None)

    return [of(folders) for folders in around]


def _without_split(
    where: str, images: Sequence[PurePosixPath], listed: Sequence[PurePosixPath]
) -> list[Folders]:
    """Return the folders of each image without that of the split."""
    try:
        split = split_folders(where, listed)
    except ValueError:  # another rule chooses the split, and these folders are classes
        split = None
    if split is None:
        return [image.parts[:-1] for image in images]
    paths = {folder.parts for role in split.values() for folder in role}
    depth = len(next(iter(paths)))
    outside = [image for image in images if image.parts[:depth] not in paths]
    if outside:
        raise ValueError(
            f"{where} must have all class folders in the folders of its split, got images outside "
            f"them: {examples(outside)}"
        )
    return [(*image.parts[: depth - 1], *image.parts[depth:-1]) for image in images]


def _name(folder: str) -> str:
    return printable(unicodedata.normalize("NFC", folder))
