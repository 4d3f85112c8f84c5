"""Data sets: whole images with a fixed split into training and test."""

from __future__ import annotations

from flowpp.config import DataConfig
from flowpp.data import cifar10, digits, folder, imagenet, photos
from flowpp.data.image_set import ImageSet
from flowpp.data.reduce import reduce_bits, reduce_size

__all__ = ["ImageSet", "declared_shape", "load"]

DECLARED = {
    "digits": ((1, 8, 8), 17),
    "photos": ((3, 32, 32), 256),
    "cifar10": ((3, 32, 32), 256),
    "imagenet32": ((3, 32, 32), 256),
    "imagenet64": ((3, 64, 64), 256),
}
BUNDLED = ("digits", "photos")


def load(config: DataConfig) -> ImageSet:
    """The images that `config` names.

    Raises:
        ValueError: unknown source, a path missing or given in vain, or contents that are not
            images of the promised kind.
        FileNotFoundError: nothing lies at `config.path`.
    """
    if config.source in BUNDLED and config.path is not None:
        raise ValueError(f"data.source {config.source!r} is bundled, data.path is given in vain")
    images = _load(config)
    if config.size is not None and config.source != "folder":
        images = reduce_size(images, config.size)
    return reduce_bits(images, config.bits)


def declared_shape(config: DataConfig) -> tuple[tuple[int, int, int], int]:
    """(channels, height, width) and number of levels of the images, without reading them.

    Raises:
        ValueError: a folder's images without `data.size`.
    """
    if config.source == "folder":
        if config.size is None:
            raise ValueError("folder needs --data.size, got none")
        shape: tuple[int, int, int] = (config.channels, config.size, config.size)
        levels = 256
    else:
        shape, levels = DECLARED[config.source]
    if config.size is not None:
        shape = (shape[0], config.size, config.size)
    return shape, levels if config.bits == 8 else 1 << config.bits


def _load(config: DataConfig) -> ImageSet:
    if config.source == "digits":
        return digits.load()
    if config.source == "photos":
        return photos.load()
    if config.source == "cifar10":
        return cifar10.load(config.path, config.held_out)
    if config.source in ("imagenet32", "imagenet64"):
        side = int(config.source.removeprefix("imagenet"))
        return imagenet.load(config.path, side, partial=config.partial)
    if config.source == "folder":
        return folder.load(config.path, config.size, config.channels, skip_bad=config.skip_bad)
    raise ValueError(
        f"data.source must be one of {', '.join(DECLARED)}, folder, got {config.source!r}"
    )
