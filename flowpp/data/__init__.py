"""Image data sets with a fixed split into training and test images.

>>> from flowpp import data
>>> from flowpp.config import DataConfig
>>> images = data.load(DataConfig(source="digits"))
>>> images.train.shape, images.test.shape, images.levels
((1500, 1, 8, 8), (297, 1, 8, 8), 17)

Other sources are read from disk: `DataConfig(source="cifar10", path="cifar-10-batches-py")`,
`DataConfig(source="folder", path="photos", size=32)`, where the path may also be that of an
archive, an array or a parquet file.
"""

from __future__ import annotations

import functools
import importlib
import shlex

from flowpp.config import DataConfig, checks
from flowpp.config.data_sets import DATA_SETS, Shape
from flowpp.data import decoded
from flowpp.data.contexts import with_context
from flowpp.data.derived_contexts import context_shape
from flowpp.data.image_set import ImageSet
from flowpp.data.reduce import reduce_bits, reduce_size

SETTINGS = {
    "Config": "config.data",
    "str": "flowpp.config.presets.get(NAME).data or DataConfig(source=...)",
    "dict": "flowpp.config.serialization.from_dict(DataConfig, config)",
}
"""Replacement to suggest for settings of the wrong kind, by name of their class."""

__all__ = ["ImageSet", "declared_shape", "load"]


def load(config: DataConfig) -> ImageSet:
    """Load a data set, then reduce it to `config.size` and `config.bits`.

    With `config.labels` or `config.context` it has a context for each image.

    Images of large archives and folders are decoded once and then read from disk when they are
    used, see `flowpp.data.decoded`.

    Raises:
        ValueError: Missing or unused path, damaged files, or images of another kind than
            expected; missing, surplus or unknown contexts.
        TypeError: Arrays of another type than uint8, or settings that are not a `DataConfig`.
        FileNotFoundError: A missing file or folder.
    """
    checks.kind_of("config", config, DataConfig, SETTINGS)
    data_set = DATA_SETS[config.source]
    if data_set.bundled and config.path is not None:
        raise ValueError(
            f"data.path is not used by data.source {config.source!r} (bundled), got "
            f"{config.path!r}; to train on your own images:  "
            f"python -m flowpp.train small --data.path {shlex.quote(config.path)}"
        )
    if config.derived_context is not None:  # before the images are decoded, which takes longer
        context_shape(*config.derived_context, declared_shape(config)[0])
    if not data_set.kept_decoded:
        return _decode(config, decoded.in_memory)
    files = importlib.import_module(data_set.module).files(config)
    if not decoded.is_large(files):
        return _decode(config, decoded.in_memory)
    return decoded.load(config, files, functools.partial(_decode, config))


def _decode(config: DataConfig, allocate: decoded.Allocate) -> ImageSet:
    """Load and reduce the images, and find their contexts."""
    data_set = DATA_SETS[config.source]
    load = importlib.import_module(data_set.module).load
    images: ImageSet = load(config, allocate) if data_set.kept_decoded else load(config)
    if (size := config.height_width) is not None and data_set.shape is not None:
        images = reduce_size(images, *size, allocate=allocate)
    return with_context(reduce_bits(images, config.bits, allocate), config, allocate)


def declared_shape(config: DataConfig) -> tuple[Shape, int]:
    """Return the images' (channels, height, width) and number of values of a channel.

    Raises:
        ValueError: A folder without `data.size`.
    """
    data_set = DATA_SETS[config.source]
    channels, height, width = data_set.shape or (config.channels or 3, 0, 0)
    height, width = config.height_width or (height, width)
    if not height:
        raise ValueError(f"{config.source} needs data.size, got none")
    full = config.bits is None or config.bits == 8
    return (channels, height, width), data_set.levels if full else 1 << (config.bits or 8)
