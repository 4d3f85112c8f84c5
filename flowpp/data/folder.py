"""Any folder of images: CelebA-HQ, or one's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from flowpp.data.decode import COLOUR, content, decode
from flowpp.data.image_set import ImageSet

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".ppm", ".tif", ".tiff"})
TEST_EVERY = 10
SPLITS = (("train", ("train", "training")), ("test", ("test", "valid", "val", "validation")))


def load(
    path: str | None, size: int | None, channels: int = COLOUR, *, skip_bad: bool = False
) -> ImageSet:
    """Images below a folder, resized to `size` along the shorter side and cut square.

    If the folder has subfolders train and test (or valid), they are the split. Otherwise every
    tenth image, in the order of their paths, is held out.

    Args:
        path: the folder.
        size: height and width of the images.
        channels: 1 for grey images, 3 for colour.
        skip_bad: leave out what would be refused; `ImageSet.skipped` has the reasons.

    Raises:
        FileNotFoundError: nothing lies at `path`.
        ValueError: no path or size given, fewer than two images, or a file that is no image of
            this kind.
    """
    if path is None or size is None:
        raise ValueError(
            f"folder needs --data.path and --data.size, got path {path} and size {size}"
        )
    folder = find(path)
    train, test = split(folder)
    skipped: list[str] = []
    read = [_read(paths, size, channels, skipped if skip_bad else None) for paths in (train, test)]
    for images, what in zip(read, ("train on", "hold out"), strict=True):
        if not len(images):
            raise ValueError(f"folder: no image to {what} is left, {len(skipped)} are skipped")
    return ImageSet(folder.name, read[0], read[1], 256, tuple(skipped))


def find(path: str) -> Path:
    """The folder of that name.

    Raises:
        FileNotFoundError: there is none.
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"folder: {folder} is no folder")
    return folder


def split(folder: Path) -> tuple[list[Path], list[Path]]:
    """Files to train on and to hold out.

    Raises:
        ValueError: there is none of either.
    """
    train, test = _split(folder)
    if not train or not test:
        raise ValueError(
            f"folder: {folder} needs images to train on and to hold out, "
            f"got {len(train)} and {len(test)}; known suffixes: {', '.join(sorted(SUFFIXES))}"
        )
    return train, test


def _split(folder: Path) -> tuple[list[Path], list[Path]]:
    inside = {
        split: next((folder / n for n in names if (folder / n).is_dir()), None)
        for split, names in SPLITS
    }
    if inside["train"] is not None and inside["test"] is not None:
        return _images(inside["train"]), _images(inside["test"])
    every = _images(folder)
    held_out = every[TEST_EVERY - 1 :: TEST_EVERY] or every[-1:]
    chosen = set(held_out)
    return [p for p in every if p not in chosen], held_out


def _images(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())


def _read(paths: list[Path], size: int, channels: int, skipped: list[str] | None) -> np.ndarray:
    """Without a list for what is skipped, nothing is."""
    images = np.empty((len(paths), channels, size, size), np.uint8)
    count = 0
    for path in paths:
        try:
            images[count] = decode(content(path), str(path), size, channels)
        except ValueError as error:
            if skipped is None:
                raise
            skipped.append(str(error))
            continue
        count += 1
    return images[:count]
