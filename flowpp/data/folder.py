"""Any folder of images, such as CelebA-HQ or your own."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from flowpp.config import DataConfig
from flowpp.data.decode import ImageError, decode, in_parallel, read_file
from flowpp.data.decoded import Allocate, in_memory
from flowpp.data.image_set import ImageSet

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".ppm", ".tif", ".tiff"})
TEST_EVERY = 10
TRAIN_FOLDERS = ("train", "training")
TEST_FOLDERS = ("test", "valid", "val", "validation")


def load(config: DataConfig, allocate: Allocate = in_memory) -> ImageSet:
    """Load the images below a folder, resized to `config.size` and cropped square.

    Subfolders `train` and `test` (or `valid`), if present, are the split. Otherwise every tenth
    image, in the order of their paths, is held out.

    Raises:
        FileNotFoundError: A missing folder.
        ValueError: No path or size, fewer than two images, or, without `config.skip_bad`, a file
            that is not an image of `config.channels` channels.
    """
    folder, size = find(config), _size(config)
    skipped: list[str] | None = [] if config.skip_bad else None
    splits = []
    for paths, purpose in zip(split(folder), ("train on", "hold out"), strict=True):
        images = allocate((len(paths), config.channels, size, size))
        splits.append(_read(paths, images, skipped))
        if not len(splits[-1]):
            raise ValueError(
                f"folder: at least one image to {purpose} is needed, "
                f"got 0 after skipping {len(skipped or ())}"
            )
    return ImageSet(folder.name, splits[0], splits[1], 256, tuple(skipped or ()))


def files(config: DataConfig) -> list[Path]:
    """Return all files that `load` reads; raises as it does for settings and folders."""
    folder, _ = find(config), _size(config)
    train, test = split(folder)
    return [*train, *test]


def find(config: DataConfig) -> Path:
    """Return the folder at `config.path`.

    Raises:
        FileNotFoundError: A missing folder.
        ValueError: No path.
    """
    folder = config.required_path("a folder of images")
    if not folder.is_dir():
        raise FileNotFoundError(f"folder: {folder} is not a folder")
    return folder


def _size(config: DataConfig) -> int:
    if config.size is None:
        raise ValueError("folder needs --data.size, got none")
    return config.size


def split(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the files to train on and those to hold out.

    Raises:
        ValueError: None of either.
    """
    train, test = _split(folder)
    if not train or not test:
        raise ValueError(
            f"folder: {folder} must have images to train on and to hold out, "
            f"got {len(train)} and {len(test)}; known suffixes: {', '.join(sorted(SUFFIXES))}"
        )
    return train, test


def _split(folder: Path) -> tuple[list[Path], list[Path]]:
    train, test = _subfolder(folder, TRAIN_FOLDERS), _subfolder(folder, TEST_FOLDERS)
    if train is not None and test is not None:
        return _image_files(train), _image_files(test)
    files = _image_files(folder)
    held_out = files[TEST_EVERY - 1 :: TEST_EVERY] or files[-1:]
    chosen = set(held_out)
    return [file for file in files if file not in chosen], held_out


def _subfolder(folder: Path, names: tuple[str, ...]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_dir()), None)


def _image_files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())


def _read(paths: list[Path], images: np.ndarray, skipped: list[str] | None) -> np.ndarray:
    """Decode files into the first rows of `images`, and return those.

    The reasons for bad files are appended to `skipped`, or raised if it is None.
    """
    _, channels, size, _ = images.shape

    def read(path: Path) -> np.ndarray | ImageError:
        try:
            return decode(read_file(path), str(path), size, channels)
        except ImageError as error:
            return error

    count = 0
    for pixels in in_parallel(read, paths):
        if not isinstance(pixels, ImageError):
            images[count] = pixels
            count += 1
        elif skipped is None:
            raise pixels
        else:
            skipped.append(str(pixels))
    return images[:count]
