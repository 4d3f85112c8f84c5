"""Image contexts to sample from: of held-out images, of other images, or given as they are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from flowpp.config import DataConfig
from flowpp.config.context_spec import ContextSpec
from flowpp.data.contexts_of_others import contexts_of
from flowpp.data.derived_contexts import masked
from flowpp.data.unsplit import load_all
from flowpp.model import FlowPlusPlus
from flowpp.runtime.image_checks import Shape


@dataclass(frozen=True, eq=False)
class Given:
    """Contexts, and the images that they were made of.

    Args:
        contexts: (N, K, h, w), integers 0 ... levels - 1.
        truth: (N, C, H, W), or None if only the contexts are known.
        notes: lines for the user on how the images were read.
    """

    contexts: np.ndarray
    truth: np.ndarray | None
    notes: tuple[str, ...] = ()

    def spread(self, count: int) -> Given:
        """Return `count` images, evenly spread from the first to the last."""
        chosen = np.linspace(0, len(self.contexts) - 1, count).round().astype(int)
        truth = None if self.truth is None else self.truth[chosen]
        return replace(self, contexts=self.contexts[chosen], truth=truth)


def image_contexts_of(model: FlowPlusPlus) -> ContextSpec:
    """Return the description of a model's image contexts.

    Raises:
        ValueError: a model of other contexts or of none.
    """
    spec: ContextSpec | None = model.context_spec
    if spec is None or spec.kind != "images":
        kind = "one without contexts" if spec is None else f"one of {spec.kind}"
        raise ValueError(
            "a model of image contexts (--data.context grey, low-resolution, mask or a folder) is "
            f"needed, got {kind}: use python -m flowpp.sample"
        )
    return spec


def made_of(model: FlowPlusPlus, data: DataConfig, path: Path, *, skip_bad: bool = False) -> Given:
    """Make contexts of the images at a path, read as those of the training.

    Raises:
        ValueError, FileNotFoundError: as `load_all`; images that have no such context.
    """
    spec, shape = image_contexts_of(model), _shape_of(model)
    images = load_all(path, data, shape, model.levels, skip_bad=skip_bad)
    return Given(contexts_of(images, spec), images.pixels, images.notes)


def given_contexts(
    model: FlowPlusPlus, data: DataConfig, path: Path, *, skip_bad: bool = False
) -> Given:
    """Read images that are contexts themselves, resized and cropped to their size.

    Raises:
        ValueError, FileNotFoundError: as `load_all`; contexts of masks, which no image alone is.
    """
    spec = image_contexts_of(model)
    channels, height, width = spec.shape
    if spec.source == "mask":
        raise ValueError("contexts must be grey, small or other images, got a run of masks")
    if channels not in (1, 3):
        raise ValueError(f"contexts must be grey or colour, got a run of {channels} channels")
    own = replace(data, channels=1 if channels == 1 else 3, convert=True)
    shape = (channels, height, width)
    images = load_all(path, own, shape, model.levels, skip_bad=skip_bad)
    return Given(images.pixels, None, images.notes)


def with_mask(
    model: FlowPlusPlus, given: Given, path: Path, crop: Literal["centre", "stretch"] = "centre"
) -> Given:
    """Hide the same pixels of all images: those that are dark in the image at a path.

    Args:
        model: the model.
        given: images with contexts.
        path: the image, which is fitted to the model's size.
        crop: how, if it has another aspect ratio: as the images.

    Raises:
        ValueError: several images, or one that hides nothing.
    """
    truth = given.truth
    assert truth is not None
    _, height, width = truth.shape[1:]
    data = DataConfig(
        source="folder", size=f"{height}x{width}", channels=1, convert=True, crop=crop
    )
    picture = load_all(path, data, (1, height, width), 256).pixels
    if len(picture) != 1:
        raise ValueError(f"mask must be one image, got {len(picture)}")
    visible = picture > 127
    if visible.all():
        raise ValueError(f"mask must have dark pixels, which are hidden, got none in {path}")
    masks = np.broadcast_to(visible, (len(truth), 1, height, width))
    return replace(given, contexts=masked(truth, masks, model.levels))


def pasted(spec: ContextSpec, contexts: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """Return samples with the visible pixels of their contexts, for a model of masks.

    Args:
        spec: description of the contexts.
        contexts: (M, K, h, w).
        samples: (M * n, C, H, W), those of a context one after another.
    """
    if spec.source != "mask":
        return samples
    repeated = contexts.repeat(len(samples) // len(contexts), axis=0)
    return np.where(repeated[:, -1:] > 0, repeated[:, :-1], samples).astype(samples.dtype)


def _shape_of(model: FlowPlusPlus) -> Shape:
    assert model.image_shape is not None  # set by `build_model`
    return model.image_shape
