"""Training on images in memory: `flowpp.fit(images)`."""

from __future__ import annotations

import dataclasses
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from flowpp.config import Config, DataConfig, presets
from flowpp.data import autoconfig
from flowpp.data.arrays import ArrayFiles
from flowpp.evaluation.grids import save_arrays
from flowpp.runs.run import IMAGES, check_new, create_default_out
from flowpp.runtime.files import make_writable_folder
from flowpp.trained_model import TrainedModel, load
from flowpp.training.loop import train
from flowpp.training.setup import prepare

MAX_BYTES = 2 << 30
"""Largest images that are stored in a run directory."""


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
        images: integers of uint8 or uint16, (N, H, W), (N, H, W, C) or (N, C, H, W).
        preset: name of a preset, or settings; `small` chooses its model by the images.
        out: run directory, new or empty; runs/PRESET-DATE-TIME if not given.
        test: images to hold out, likewise; every tenth of `images` if not given.
        init_from: run or checkpoint file whose averaged weights to start from.
        **training: settings of `TrainingConfig` by name, such as `steps=500`.

    Raises:
        TypeError: images of another type, or an unknown setting.
        ValueError: images of another shape, of more than 2 GiB, too few, or settings that do not
            fit them; a run directory that is neither new nor empty.
    """
    config = presets.get(preset) if isinstance(preset, str) else preset
    known = {field.name for field in dataclasses.fields(config.training)}
    if unknown := sorted(training.keys() - known):
        raise TypeError(f"training settings must be among {', '.join(sorted(known))}, got "
                        f"{', '.join(unknown)}")  # fmt: skip
    settings = dataclasses.replace(config.training, **training)
    if out is not None:
        check_new(Path(out))
    arrays = {"images": _array(images)} if test is None else {
        "train": _array(images), "test": _array(test)
    }  # fmt: skip
    is_new = out is None or not Path(out).exists()
    out = create_default_out(config.preset) if out is None else make_writable_folder(Path(out))
    path = (out / IMAGES).resolve()
    try:
        data = _data(arrays, path, config.data)
        save_arrays(path, **arrays)
        config, notes = autoconfig.configure(
            dataclasses.replace(config, data=data, training=settings)
        )
        prepared = prepare(config)
    except BaseException:
        path.unlink(missing_ok=True)  # nothing has been trained: the folder can be used again
        if is_new:
            with suppress(OSError):  # not empty after all
                out.rmdir()
        raise
    for note in notes:
        print(note)
    train(config, out, prepared, init_from=init_from)
    return load(out, device=settings.device)


def _array(images: Any) -> np.ndarray:
    """Return images of a tensor, list or array.

    Raises:
        ValueError: more than `MAX_BYTES`.
    """
    if hasattr(images, "detach"):
        images = images.detach().cpu().numpy()
    array = np.ascontiguousarray(images)
    if array.nbytes > MAX_BYTES:
        raise ValueError(
            f"images in memory must have at most {MAX_BYTES >> 30} GiB, which their run stores, "
            f"got {array.nbytes / 2**30:.1f} GiB: save them by np.save and use  "
            "python -m flowpp.train small --data.path FILE.npy"
        )
    return array


def _data(arrays: dict[str, np.ndarray], path: Path, data: DataConfig) -> DataConfig:
    """Return settings that read the arrays back; raises as `ArrayFiles.of`."""
    found = next(iter(ArrayFiles.of(path, arrays).arrays.values()))
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
