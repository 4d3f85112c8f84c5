"""Data sets that are one `.npz` with the arrays `train` and `test`.

A line of `flowpp.config.data_sets.DATA_SETS` suffices for such a data set:

    "usps": DataSet("flowpp.data.npz_images", (1, 16, 16)),
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from flowpp.config import DataConfig
from flowpp.config.data_sets import DATA_SETS, Shape
from flowpp.data import npz
from flowpp.data.image_set import ImageSet, Part
from flowpp.data.own_labels import labels_in, with_labels


def load(config: DataConfig, classes: Sequence[str] | None = None) -> ImageSet:
    """Load the arrays `train` and `test`, uint8 of shape (N, H, W, C), or (N, H, W) if C is 1.

    Shape and number of values are those of `config.source`. The file may hold more arrays:
    `config.held_out` names the one to hold out. Labels are the arrays `train_labels` and
    `test_labels`; the names of labels 0, 1, ... are the array `label_names` if it is there, or
    else `classes`, or else the numbers.

    Raises:
        FileNotFoundError: A missing file.
        TypeError: An array that is not uint8.
        ValueError: No path, a damaged file, or arrays that are missing or of another shape.
    """
    source, held_out = config.source, config.held_out
    data_set = DATA_SETS[source]
    assert data_set.shape is not None
    path = config.required_path("an .npz")
    try:
        present = npz.names(path)
        if not {"train", held_out} <= set(present):
            raise ValueError(
                f"{path} must have arrays 'train' and {held_out!r}, got {sorted(present)}"
            )
        arrays = npz.read(path, ("train", held_out))
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    train, test = (
        _to_nchw(arrays[name], data_set.shape, f"{source}: {name} in {path}")
        for name in ("train", held_out)
    )
    arrays_of: dict[Part, str] = {"train": "train", "test": held_out}
    labels = labels_in(path, arrays_of, classes) if config.labels else {}
    name = source if held_out == "test" else f"{source}, {held_out}"
    origins = {"train": f"array train of {path}", "test": f"array {held_out} of {path}"}
    images = ImageSet(name, train, test, data_set.levels, origins=origins)
    return with_labels(images, config, labels) if config.labels else images


def _to_nchw(array: np.ndarray, shape: Shape, who: str) -> np.ndarray:
    channels, height, width = shape
    if array.dtype != np.uint8:
        raise TypeError(f"{who} must be uint8, got {array.dtype}")
    given = array.shape
    if array.ndim == 3 and channels == 1:
        array = array[..., None]
    if array.ndim != 4 or array.shape[1:] != (height, width, channels) or len(array) == 0:
        grey = f"(N, {height}, {width}) or " if channels == 1 else ""
        raise ValueError(
            f"{who} must have shape {grey}(N, {height}, {width}, {channels}), got {given}"
        )
    return np.ascontiguousarray(array.transpose(0, 3, 1, 2))
