"""Training on images in memory: `flowpp.fit(images)`."""

from __future__ import annotations

import dataclasses
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from flowpp.config import Config, DataConfig, TrainingConfig, checks, presets
from flowpp.config.image_sizes import check_layouts
from flowpp.config.mistakes import nearest_setting
from flowpp.config.serialization import from_dict
from flowpp.data import autoconfig, declared_shape
from flowpp.data.arrays import as_nhwc
from flowpp.data.splits import EVERY
from flowpp.evaluation.given_images import tensor_of
from flowpp.evaluation.grids import save_arrays
from flowpp.runs.run import CONFIG, IMAGES, check_new, create_default_out
from flowpp.runtime.files import make_writable_folder
from flowpp.runtime.image_checks import comparable, values_error
from flowpp.trained_model import TrainedModel, load
from flowpp.training.loop import train
from flowpp.training.setup import MIN_COUNTS, SETTINGS, checked_settings, prepare

MAX_BYTES = 2 << 30
"""Largest images that are stored in a run directory."""

Arrays = dict[str, np.ndarray]
"""`images`, or `train` and `test`: uint8 or uint16, (N, H, W) or (N, H, W, 3)."""


def fit(
    images: Any,
    *,
    preset: str | Config = "small",
    out: Path | str | None = None,
    test: Any = None,
    init_from: Path | str | None = None,
    **training: Any,
) -> TrainedModel:
    """Train on images in memory and write a run directory, as `python -m flowpp.train` does.

    The images are stored in the run directory, as images.npz, so that the run can be evaluated and
    resumed: `python -m flowpp.train --resume OUT`.

    Args:
        images: an array, tensor or lists of integers 0 ... 255, or 0 ... 65535 for 16 bits, of any
            type; (N, H, W), (N, H, W, C) or (N, C, H, W).
        preset: name of a preset, or settings; `small` chooses its model by the images.
        out: run directory, new or empty; runs/PRESET-DATE-TIME if not given.
        test: images to hold out, likewise; every tenth of `images` if not given.
        init_from: run or checkpoint file whose averaged weights to start from.
        **training: settings of `TrainingConfig` by name, such as `steps=500`.

    Raises:
        TypeError: images that are not numbers, or an unknown setting.
        ValueError: values that are not integers 0 ... 255 (or 65535), images of another shape, of
            more than 2 GiB, too few, or settings that do not fit them; a run directory that is
            neither new nor empty.
    """
    config = presets.get(preset) if isinstance(preset, str) else preset
    checks.kind_of("preset", config, Config, SETTINGS)
    config = checked_settings(_with_training(config, training))
    arrays = _arrays(images, test)
    if out is not None:
        check_new(Path(out))
    is_new = out is None or not Path(out).exists()
    folder = create_default_out(config.preset) if out is None else make_writable_folder(Path(out))
    path = (folder / IMAGES).resolve()
    try:
        config = dataclasses.replace(config, data=_data(arrays, path, config.data))
        _check_counts(arrays, config.data)
        save_arrays(path, **arrays)
        config, notes = autoconfig.configure(config)
        check_layouts(config.model, declared_shape(config.data)[0])
        prepared = prepare(config)
        for note in notes:
            print(note)
        train(config, folder, prepared, init_from=init_from)
    except BaseException:
        if not (folder / CONFIG).exists():  # nothing was trained: the folder can be used again
            path.unlink(missing_ok=True)
            if is_new:
                with suppress(OSError):  # not empty after all
                    folder.rmdir()
        raise
    return load(folder, device=config.training.device)


def _with_training(config: Config, training: dict[str, Any]) -> Config:
    """Return the settings with some of those of training changed.

    Raises:
        TypeError: an unknown setting; the message suggests the nearest one.
    """
    known = sorted(field.name for field in dataclasses.fields(config.training))
    for name in training:
        if name not in known:
            raise TypeError(
                f"training settings must be among {', '.join(known)}, got {name}"
                f"{nearest_setting(name, known)}"
            )
    if "device" in training:
        training["device"] = str(training["device"])  # of a torch.device too
    settings = dataclasses.asdict(config.training) | {
        name: value.item() if isinstance(value, np.generic) else value
        for name, value in training.items()
    }
    return dataclasses.replace(config, training=from_dict(TrainingConfig, settings))


def _arrays(images: Any, test: Any) -> Arrays:
    """Return the images in arrays of one type.

    Raises:
        TypeError: images that are not numbers.
        ValueError: values that are not integers 0 ... 65535, images of another shape, too large,
            or of two shapes.
    """
    if test is None:
        return {"images": _array(images, "images")}
    train, held_out = _array(images, "images"), _array(test, "test")
    if train.shape[1:] != held_out.shape[1:]:
        raise ValueError(
            f"test must have the images' shape, (N, {', '.join(map(str, train.shape[1:]))}) with "
            f"the channels last, got {held_out.shape}"
        )
    dtype = np.promote_types(train.dtype, held_out.dtype)
    return {"train": train.astype(dtype, copy=False), "test": held_out.astype(dtype, copy=False)}


def _array(images: Any, name: str) -> np.ndarray:
    """Return the images of an array, tensor or lists, (N, H, W) or (N, H, W, 3).

    Raises:
        TypeError, ValueError: as `_arrays`.
    """
    if isinstance(images, str | Path):
        raise TypeError(
            f"{name} must be an array or a tensor, got a path: use  python -m flowpp.train small "
            f"--data.path {images}"
        )
    if isinstance(images, Dataset | DataLoader):
        raise TypeError(
            f"{name} must be an array or a tensor, got {type(images).__name__}: put its images "
            "together, as in torch.stack([image for image, *_ in dataset])"
        )
    x = comparable(tensor_of(images, name).detach().cpu())
    if x.dtype == torch.bool or x.is_complex():
        hint = ": multiply by 255" if x.dtype == torch.bool else ""
        raise TypeError(f"{name} must be integers 0 ... 255, got {x.dtype}{hint}")
    _check_values(x, name)
    deep = x.numel() > 0 and bool(x.max() > 255)
    array = x.numpy().astype(np.uint16 if deep or _is_deep(images) else np.uint8)
    if array.nbytes > MAX_BYTES:
        raise ValueError(
            f"{name} in memory must have at most {MAX_BYTES >> 30} GiB, which their run stores, "
            f"got {array.nbytes / 2**30:.1f} GiB: save them by np.save and use  "
            "python -m flowpp.train small --data.path FILE.npy"
        )
    if array.ndim not in (3, 4):
        raise ValueError(
            f"{name} must be (N, H, W), (N, H, W, C) or (N, C, H, W), got {array.shape}"
        )
    return as_nhwc(array, name)


def _check_values(x: torch.Tensor, name: str) -> None:
    """Require integers 0 ... 65535."""
    valid = (x >= 0) & (x <= 65535)
    if x.is_floating_point():
        valid &= x == x.round()
    if not valid.all():
        levels = 1 << 16 if bool((x[valid] > 255).any()) else 256
        raise values_error(x, valid, levels, name)


def _is_deep(images: Any) -> bool:
    """Return whether images were given in a type of 16 bits without a sign."""
    return getattr(images, "dtype", None) in (torch.uint16, np.dtype(np.uint16))


def _check_counts(arrays: Arrays, data: DataConfig) -> None:
    """Require enough images to train on and to hold out.

    Raises:
        ValueError: too few; the message names the argument.
    """
    if "images" not in arrays:
        for name, part in (("images", "train"), ("test", "test")):
            if len(arrays[part]) < MIN_COUNTS[part]:
                raise ValueError(
                    f"{name} must be at least {MIN_COUNTS[part]} images, got {len(arrays[part])}"
                )
        return
    period = EVERY.get(data.split, EVERY["tenth"])
    needed = period * MIN_COUNTS["test"]
    if len(arrays["images"]) < needed:
        raise ValueError(
            f"images must be at least {needed}, of which every {period}th is held out, got "
            f"{len(arrays['images'])}: give more, or others to hold out by test="
        )


def _data(arrays: Arrays, path: Path, data: DataConfig) -> DataConfig:
    """Return settings that read the arrays back."""
    found = next(iter(arrays.values()))
    own_size = data.source == "folder" and data.size is not None
    size = data.size if own_size else f"{found.shape[1]}x{found.shape[2]}"
    bits = data.bits or (16 if found.dtype == np.uint16 else None)
    return dataclasses.replace(
        data,
        source="folder",
        path=str(path),
        size=size,
        bits=bits,
        channels=3 if found.ndim == 4 else 1,
    )
