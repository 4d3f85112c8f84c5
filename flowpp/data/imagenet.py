"""Downsampled ImageNet, in both published versions.

Their images differ. The first version (van den Oord, Kalchbrenner, Kavukcuoglu 2016), used by the
Flow++ paper, came as PNG archives `train_32x32.tar` and `valid_32x32.tar`. The second
(Chrabaszcz, Loshchilov, Hutter 2017) comes as `.npz` batches, resized by another filter, and has
other likelihoods. So the version is part of the data set's name.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from flowpp.config import DataConfig
from flowpp.data import archive, npz
from flowpp.data.decode import decode_rgb, read_file
from flowpp.data.image_set import ImageSet

PNG_COUNTS = {"train": 1_281_149, "valid": 49_999}
NPZ_COUNTS = {"train": 1_281_167, "valid": 50_000}
NPZ_BATCHES = 10
MAX_PNG_BYTES = 1 << 20


def load(config: DataConfig) -> ImageSet:
    """Load ImageNet at 32x32 or 64x64 pixels, by `config.source`, from the folder of its files.

    The folder holds `train_SxS.tar` and `valid_SxS.tar` (or folders so named), or
    `train_data_batch_1.npz` ... `_10.npz` and `val_data.npz`.

    Raises:
        FileNotFoundError: A missing folder or file.
        ValueError: No path, a damaged file, images of another size, or, without
            `config.partial`, another number of images than published.
    """
    who = config.source
    side = int(who.removeprefix("imagenet"))
    folder = config.required_path("the folder of its .tar or .npz files")
    if not folder.is_dir():
        raise FileNotFoundError(f"{who}: {folder} is not a folder")
    if (folder / "val_data.npz").is_file():
        version, counts = "npz batches of 2017", NPZ_COUNTS
        train, valid = _from_npz(folder, side, who, partial=config.partial)
    else:
        version, counts = "PNG archives of 2016", PNG_COUNTS
        train, valid = (_from_png(folder, split, side, who) for split in ("train", "valid"))
    for split, images in (("train", train), ("valid", valid)):
        if len(images) != counts[split] and not config.partial:
            raise ValueError(
                f"{who} ({version}) must have {counts[split]} {split} images, got {len(images)} "
                f"in {folder}; --data.partial accepts them"
            )
    suffix = ", partial" if config.partial else ""
    return ImageSet(f"{who} ({version}{suffix})", train, valid, 256)


def _from_png(folder: Path, split: str, side: int, who: str) -> np.ndarray:
    stem = f"{split}_{side}x{side}"
    if (folder / f"{stem}.tar").is_file():
        return _from_tar(folder / f"{stem}.tar", side, who)
    if (folder / stem).is_dir():
        paths = sorted(p for p in (folder / stem).glob("*.png") if p.is_file())
        return _stack([decode_rgb(read_file(p), f"{who}: {p}", side) for p in paths], side)
    raise FileNotFoundError(f"{who}: {folder} has neither {stem}.tar nor a folder {stem}")


def _from_tar(path: Path, side: int, who: str) -> np.ndarray:
    images: dict[str, np.ndarray] = {}
    try:
        for name, raw in archive.files(
            path, lambda member: member.endswith(".png"), max_file_bytes=MAX_PNG_BYTES
        ):
            images[name] = decode_rgb(raw, f"{who}: {name} in {path}", side)
    except archive.ArchiveError as error:
        raise ValueError(f"{who}: {error}") from error
    return _stack([images[name] for name in sorted(images)], side)


def _stack(images: list[np.ndarray], side: int) -> np.ndarray:
    return np.stack(images) if images else np.empty((0, 3, side, side), np.uint8)


def _from_npz(
    folder: Path, side: int, who: str, *, partial: bool
) -> tuple[np.ndarray, np.ndarray]:
    names = [f"train_data_batch_{i}.npz" for i in range(1, NPZ_BATCHES + 1)]
    missing = [name for name in names if not (folder / name).is_file()]
    if missing and not (partial and len(missing) < len(names)):
        raise FileNotFoundError(f"{who}: {folder} has no {', '.join(missing)}")
    present = [folder / name for name in names if name not in missing]
    train = np.concatenate([_read_batch(file, side, who) for file in present])
    return train, _read_batch(folder / "val_data.npz", side, who)


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
