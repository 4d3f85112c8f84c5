"""Downsampled ImageNet, in both published versions.

Their images differ. The first version (van den Oord, Kalchbrenner, Kavukcuoglu 2016), used by the
Flow++ paper, came as PNG archives `train_32x32.tar` and `valid_32x32.tar`. The second
(Chrabaszcz, Loshchilov, Hutter 2017) comes as `.npz` batches, resized by another filter, and has
other likelihoods. So the version is part of the data set's name.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from flowpp.config import DataConfig
from flowpp.data import archive, npz
from flowpp.data.decode import decode_rgb, in_parallel, read_file
from flowpp.data.decoded import Allocate, in_memory
from flowpp.data.image_set import ImageSet, Part
from flowpp.data.label_arrays import names_in
from flowpp.data.own_labels import with_labels

PNG_COUNTS = {"train": 1_281_149, "valid": 49_999}
NPZ_COUNTS = {"train": 1_281_167, "valid": 50_000}
NPZ_BATCHES = 10
VALID_NPZ = "val_data.npz"
SPLITS = ("train", "valid")
MAX_PNG_BYTES = 1 << 20


def load(config: DataConfig, allocate: Allocate = in_memory) -> ImageSet:
    """Load ImageNet at 32x32 or 64x64 pixels, by `config.source`, from the folder of its files.

    The folder holds `train_SxS.tar` and `valid_SxS.tar` (or folders so named), or
    `train_data_batch_1.npz` ... `_10.npz` and `val_data.npz`.

    Raises:
        FileNotFoundError: A missing folder or file.
        ValueError: No path, a damaged file, images of another size, or, without
            `config.partial`, another number of images than published.
    """
    who, side, folder = config.source, _side(config), _folder(config)
    if (folder / VALID_NPZ).is_file():
        version, counts = "npz batches of 2017", NPZ_COUNTS
        train, valid, labels = _from_npz(
            folder, side, who, allocate, partial=config.partial, labels=config.labels is not None
        )
    else:
        version, counts = "PNG archives of 2016", PNG_COUNTS
        if config.labels is not None:
            raise ValueError(
                f"{who} ({version}) has no labels, got data.labels {config.labels!r}; the npz "
                "batches of 2017 have them"
            )
        train, valid = (_from_png(folder, split, side, who, allocate) for split in SPLITS)
        labels = {}
    for split, images in (("train", train), ("valid", valid)):
        if len(images) != counts[split] and not config.partial:
            raise ValueError(
                f"{who} ({version}) must have {counts[split]} {split} images, got {len(images)} "
                f"in {folder}; data.partial accepts them"
            )
    suffix = ", partial" if config.partial else ""
    origins = {
        "train": f"training images of {folder}",
        "test": f"the published validation images, in {folder}",
    }
    found = ImageSet(f"{who} ({version}{suffix})", train, valid, 256, origins=origins)
    return with_labels(found, config, labels) if config.labels and labels else found


def files(config: DataConfig) -> list[Path]:
    """Return the files that `load` reads, as far as they are there.

    Raises:
        FileNotFoundError: A missing folder.
        ValueError: No path.
    """
    folder, side = _folder(config), _side(config)
    if (folder / VALID_NPZ).is_file():
        return [file for name in (*_train_npz(), VALID_NPZ) if (file := folder / name).is_file()]
    found: list[Path] = []
    for split in SPLITS:
        stem = folder / _stem(split, side)
        tar = stem.with_name(f"{stem.name}.tar")
        found += [tar] if tar.is_file() else _png_files(stem)
    return found


def _train_npz() -> list[str]:
    return [f"train_data_batch_{i}.npz" for i in range(1, NPZ_BATCHES + 1)]


def _side(config: DataConfig) -> int:
    return int(config.source.removeprefix("imagenet"))


def _folder(config: DataConfig) -> Path:
    folder = config.required_path("the folder of its .tar or .npz files")
    if not folder.is_dir():
        raise FileNotFoundError(f"{config.source}: {folder} is not a folder")
    return folder


def _stem(split: str, side: int) -> str:
    return f"{split}_{side}x{side}"


def _png_files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("*.png") if p.is_file())


def _from_png(folder: Path, split: str, side: int, who: str, allocate: Allocate) -> np.ndarray:
    stem = _stem(split, side)
    if (folder / f"{stem}.tar").is_file():
        return _from_tar(folder / f"{stem}.tar", side, who, allocate)
    if (folder / stem).is_dir():
        paths = _png_files(folder / stem)
        if not paths:
            raise ValueError(f"{who}: {folder / stem} must have PNG files, got none")
        images = allocate((len(paths), 3, side, side))

        def read(path: Path) -> np.ndarray:
            return decode_rgb(read_file(path), f"{who}: {path}", side)

        for row, pixels in enumerate(in_parallel(read, paths)):
            images[row] = pixels
        return images
    raise FileNotFoundError(f"{who}: {folder} has neither {stem}.tar nor a folder {stem}")


def _from_tar(path: Path, side: int, who: str, allocate: Allocate) -> np.ndarray:
    """Decode a tar archive's images, in the order of their names, of which the last one counts."""

    def members() -> Iterator[tuple[str, bytes]]:
        return archive.files(
            path, lambda member: member.endswith(".png"), max_file_bytes=MAX_PNG_BYTES
        )

    def read(member: tuple[str, bytes]) -> tuple[str, np.ndarray]:
        name, raw = member
        return name, decode_rgb(raw, f"{who}: {name} in {path}", side)

    try:
        rows = {name: row for row, name in enumerate(sorted({name for name, _ in members()}))}
        if not rows:
            raise ValueError(f"{who}: {path} must have PNG files, got none")
        images = allocate((len(rows), 3, side, side))
        for name, pixels in in_parallel(read, members()):
            images[rows[name]] = pixels
    except archive.ArchiveError as error:
        raise ValueError(f"{who}: {error}") from error
    return images


def _from_npz(
    folder: Path, side: int, who: str, allocate: Allocate, *, partial: bool, labels: bool
) -> tuple[np.ndarray, np.ndarray, dict[Part, list[str]]]:
    names = _train_npz()
    missing = [name for name in names if not (folder / name).is_file()]
    if missing and not (partial and len(missing) < len(names)):
        raise FileNotFoundError(f"{who}: {folder} has no {', '.join(missing)}")
    batches = [folder / name for name in names if name not in missing]
    # Each batch is read twice, so that no more than one of them is in memory.
    ends = np.cumsum([len(_read_batch(file, side, who)) for file in batches])
    train = allocate((int(ends[-1]), 3, side, side))
    for file, end in zip(batches, ends, strict=True):
        batch = _read_batch(file, side, who)
        train[end - len(batch) : end] = batch
    valid = _read_batch(folder / VALID_NPZ, side, who)
    held_out = allocate(valid.shape)
    held_out[:] = valid
    if not labels:
        return train, held_out, {}
    names = [name for file in batches for name in _read_labels(file, who)]
    return train, held_out, {"train": names, "test": _read_labels(folder / VALID_NPZ, who)}


def _read_labels(file: Path, who: str) -> list[str]:
    try:
        labels = npz.read(file, ["labels"])["labels"]
    except KeyError as error:
        raise ValueError(f"{who}: {file} must have an array 'labels', got none") from error
    return names_in(labels, f"{who}: labels in {file}")


def _read_batch(file: Path, side: int, who: str) -> np.ndarray:
    try:
        data = npz.read(file, ["data"])["data"]
    except KeyError as error:
        raise ValueError(f"{who}: {file} must have an array 'data', got none") from error
    except ValueError as error:
        raise ValueError(f"{who}: {error}") from error
    if data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != 3 * side * side:
        raise ValueError(
            f"{who}: {file} must be uint8 of shape (N, {3 * side * side}), "
            f"got {data.dtype} {data.shape}"
        )
    return data.reshape(-1, 3, side, side)  # a row holds all red, then green, then blue values
