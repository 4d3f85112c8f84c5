"""Downsampled ImageNet, in both versions that were published.

They are different images. The older one (van den Oord, Kalchbrenner, Kavukcuoglu 2016) came as
PNG archives `train_32x32.tar` and `valid_32x32.tar`; figures in the Flow++ paper are for it. The
newer one (Chrabaszcz, Loshchilov, Hutter 2017) comes as `.npz` batches, was resized by another
filter, and gives other likelihoods. The version is part of the data set's name, beside every
figure.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from flowpp.data import archive, npz
from flowpp.data.decode import content, decode_rgb
from flowpp.data.image_set import ImageSet

PNG_COUNTS = {"train": 1_281_149, "valid": 49_999}
NPZ_COUNTS = {"train": 1_281_167, "valid": 50_000}
NPZ_BATCHES = 10
LARGEST_PNG = 1 << 20


def load(path: str | None, side: int, *, partial: bool = False) -> ImageSet:
    """ImageNet at `side` x `side` pixels from the folder that holds its files.

    Args:
        path: a folder with `train_SxS.tar` and `valid_SxS.tar` (or folders so named), or with
            `train_data_batch_1.npz` ... `_10.npz` and `val_data.npz`.
        side: 32 or 64.
        partial: accept fewer images than were published.

    Raises:
        FileNotFoundError: no files of either version, or one of them missing.
        ValueError: no path given, a damaged file, images of another size, or another number of
            images than was published.
    """
    who = f"imagenet{side}"
    if path is None:
        raise ValueError(
            f"{who} needs --data.path: the folder of its .tar or .npz files; got none"
        )
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"{who}: {folder} is no folder")
    if (folder / "val_data.npz").is_file():
        version, counts = "npz batches of 2017", NPZ_COUNTS
        train, valid = _from_npz(folder, side, who, partial=partial)
    else:
        version, counts = "PNG archives of 2016", PNG_COUNTS
        train, valid = (_from_png(folder, split, side, who) for split in ("train", "valid"))
    for split, images in (("train", train), ("valid", valid)):
        if len(images) != counts[split] and not partial:
            raise ValueError(
                f"{who} ({version}) needs {counts[split]} {split} images, got {len(images)} in "
                f"{folder}; --data.partial accepts them"
            )
    marked = ", partial" if partial else ""
    return ImageSet(f"{who} ({version}{marked})", train, valid, 256)


def _from_png(folder: Path, split: str, side: int, who: str) -> np.ndarray:
    stem = f"{split}_{side}x{side}"
    if (folder / f"{stem}.tar").is_file():
        return _from_tar(folder / f"{stem}.tar", side, who)
    if (folder / stem).is_dir():
        paths = sorted(p for p in (folder / stem).glob("*.png") if p.is_file())
        return _stack([_exact(content(p), str(p), side, who) for p in paths], side)
    raise FileNotFoundError(f"{who}: {folder} has neither {stem}.tar nor a folder {stem}")


def _from_tar(path: Path, side: int, who: str) -> np.ndarray:
    images: dict[str, np.ndarray] = {}
    try:
        for name, raw in archive.files(
            path, lambda member: member.endswith(".png"), largest=LARGEST_PNG
        ):
            images[name] = _exact(raw, f"{name} in {path}", side, who)
    except archive.ArchiveError as error:
        raise ValueError(f"{who}: {error}") from error
    return _stack([images[name] for name in sorted(images)], side)


def _exact(raw: bytes, name: str, side: int, who: str) -> np.ndarray:
    return decode_rgb(raw, f"{who}: {name}", side)


def _stack(images: list[np.ndarray], side: int) -> np.ndarray:
    return np.stack(images) if images else np.empty((0, 3, side, side), np.uint8)


def _from_npz(
    folder: Path, side: int, who: str, *, partial: bool
) -> tuple[np.ndarray, np.ndarray]:
    names = [f"train_data_batch_{i}.npz" for i in range(1, NPZ_BATCHES + 1)]
    missing = [name for name in names if not (folder / name).is_file()]
    if missing and not (partial and len(missing) < len(names)):
        raise FileNotFoundError(f"{who}: {folder} has no {', '.join(missing)}")
    there = [folder / name for name in names if name not in missing]
    train = np.concatenate([_batch(file, side, who) for file in there])
    return train, _batch(folder / "val_data.npz", side, who)


def _batch(file: Path, side: int, who: str) -> np.ndarray:
    try:
        data = npz.read(file, ["data"])["data"]
    except KeyError as error:
        raise ValueError(f"{who}: {file} needs an array 'data'") from error
    except ValueError as error:
        raise ValueError(f"{who}: {error}") from error
    if data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != 3 * side * side:
        raise ValueError(
            f"{who}: {file} needs uint8 of shape (N, {3 * side * side}), "
            f"got {data.dtype} {data.shape}"
        )
    return data.reshape(-1, 3, side, side)  # a row is all red, all green, all blue
