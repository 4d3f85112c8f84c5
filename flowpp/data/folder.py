"""Any folder of images: CelebA-HQ, or one's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from flowpp.data.decode import decode_rgb
from flowpp.data.image_set import ImageSet

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".ppm", ".tif", ".tiff"})
TEST_EVERY = 10
SPLITS = (("train", ("train", "training")), ("test", ("test", "valid", "val", "validation")))


def load(path: str | None, size: int | None) -> ImageSet:
    """Images below a folder, RGB, resized to `size` along the shorter side and cut square.

    If the folder has subfolders train and test (or valid), they are the split. Otherwise every
    tenth image, in the order of their paths, is held out.

    Raises:
        FileNotFoundError: nothing lies at `path`.
        ValueError: no path or size given, fewer than two images, or a file that is no image.
    """
    if path is None or size is None:
        raise ValueError(
            f"folder needs --data.path and --data.size, got path {path} and size {size}"
        )
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"folder: {folder} is no folder")
    train, test = _split(folder)
    if not train or not test:
        raise ValueError(
            f"folder: {folder} needs images to train on and to hold out, "
            f"got {len(train)} and {len(test)}; known suffixes: {', '.join(sorted(SUFFIXES))}"
        )
    return ImageSet(folder.name, _read(train, size), _read(test, size), 256)


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


def _read(paths: list[Path], size: int) -> np.ndarray:
    images = np.empty((len(paths), 3, size, size), np.uint8)
    for i, path in enumerate(paths):
        images[i] = decode_rgb(path.read_bytes(), str(path), size)
    return images
