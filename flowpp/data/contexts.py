"""Contexts of the images of a data set, as `data.labels` or `data.context` asks for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from flowpp.config import DataConfig
from flowpp.config.context_spec import ContextSpec
from flowpp.data.decoded import Allocate, in_memory
from flowpp.data.derived_contexts import DERIVED, derive, spec_of
from flowpp.data.image_set import LABELS, ImageSet, Part
from flowpp.data.named_contexts import ARRAYS, existing
from flowpp.data.vectors import check_rows, read_array, read_arrays, same_width, spec_of_vectors


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
        spec, contexts = _vectors(images, config)
    else:
        contexts = {
            part: derive(images.part(part), images.levels, *derived, allocate)
            for part in images.counts
        }
        spec = spec_of(derived[0], contexts["train"])
    return replace(images, context=spec, contexts=contexts)


def _vectors(images: ImageSet, config: DataConfig) -> tuple[ContextSpec, dict[Part, np.ndarray]]:
    """Return the vectors in a file of arrays, in the order of the images."""
    assert config.context is not None
    path = existing(config.context)
    if path.suffix.lower() not in ARRAYS or not path.is_file():
        raise ValueError(
            f"data.context for {config.source} must be {', '.join(DERIVED)}, an .npy or .npz, got "
            f"{path}; CSV files and folders go by file name, for data.source folder"
        )
    counts = images.counts
    if path.suffix.lower() == ".npz":
        arrays = read_arrays(path, list(counts))
        for part, count in counts.items():
            check_rows(f"{path}: {part}_context", arrays[part], count, "in their order")
    else:
        order = ", then ".join(LABELS[part] for part in counts)
        vectors = read_array(path, training=True)
        check_rows(str(path), vectors, sum(counts.values()), f"{order} images")
        ends = np.cumsum(list(counts.values()))[:-1]
        arrays = dict(zip(counts, np.split(vectors, ends), strict=True))
    same_width(str(path), arrays)
    return spec_of_vectors("array", arrays["train"]), arrays
