"""Images other than those of a run, in the form that its model needs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from flowpp.config import DataConfig
from flowpp.data.unsplit import NamedImages, load_all
from flowpp.runs.open_model import OpenedModel


def load_other(
    path: Path, opened: OpenedModel, *, channels: int | None = None, skip_bad: bool = False
) -> NamedImages:
    """Load all images of a folder or file, read as those of the training.

    Args:
        path: A folder, or a file of images.
        opened: The model.
        channels: Convert all images to this number of channels, which must be the model's.
        skip_bad: Leave out files that are not images of the model's kind.

    Raises:
        FileNotFoundError, ValueError: See `load_all`; also another number of channels.
    """
    data = converting(opened.config.data, channels, opened.image_shape[0])
    return load_all(path, data, opened.image_shape, opened.model.levels, skip_bad=skip_bad)


def converting(data: DataConfig, channels: int | None, of_model: int) -> DataConfig:
    """Return settings that convert images to `channels`, which must be the model's.

    Raises:
        ValueError: Another number.
    """
    if channels is None:
        return data
    if channels != of_model:
        raise ValueError(f"data.channels must be the model's {of_model}, got {channels}")
    return replace(data, channels=1 if channels == 1 else 3, convert=True)
