"""What the images of a data set are conditioned on, by `data.labels` or `data.context`."""

from __future__ import annotations

from dataclasses import replace

from flowpp.config import DataConfig
from flowpp.data.decoded import Allocate, in_memory
from flowpp.data.derived_contexts import derive, spec_of
from flowpp.data.image_set import ImageSet


def with_context(images: ImageSet, config: DataConfig, allocate: Allocate = in_memory) -> ImageSet:
    """Return the data set with the contexts that the settings ask for, if its loader has none.

    Args:
        images: The reduced images.
        config: Settings of the data set.
        allocate: Function that returns the arrays to fill.

    Raises:
        FileNotFoundError: A missing file of contexts.
        ValueError: Labels of a data set without labels, or contexts that do not fit the images.
    """
    if not config.is_conditional or images.context is not None:
        return images
    if config.labels is not None:
        raise ValueError(f"data.labels needs a data set with labels, got {images.name}")
    derived = config.derived_context
    if derived is None:
        raise ValueError(
            f"data.context must be grey, low-resolution or mask, got {config.context!r}"
        )
    contexts = {
        part: derive(images.part(part), images.levels, *derived, allocate)
        for part in images.counts
    }
    return replace(images, context=spec_of(derived[0], contexts["train"]), contexts=contexts)
