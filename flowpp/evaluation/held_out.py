"""A run's held-out images, for the commands that show what its model makes of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from flowpp.config import Config
from flowpp.config.context_spec import ContextSpec
from flowpp.evaluation.part_contexts import own_contexts
from flowpp.runs.environment import check_images_of, check_recorded_images
from flowpp.runs.open_model import load_images
from flowpp.runtime.image_checks import Shape


class Trained(Protocol):
    """Settings and facts of a trained model that its data are checked against."""

    config: Config
    image_shape: Shape
    data_sha256: str | None

    @property
    def levels(self) -> int:
        """Number of values of a channel."""

    @property
    def context_spec(self) -> ContextSpec | None:
        """Description of the contexts; None for an unconditional model."""


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Images that are held out, with their contexts.

    Args:
        images: (N, C, H, W).
        contexts: Context of each image; None for an unconditional model.
        name: What they are, for titles: held out by the run, or from other data.
    """

    images: np.ndarray
    contexts: np.ndarray | None
    name: str


def held_out_images(
    run: Path, model: Trained, path: str | None, warn: Callable[[str], None]
) -> HeldOut:
    """Load the images that a run held out.

    Images of other data, as of a folder that has changed since, may be those of the training:
    they are named so, and `warn` is called with the reason.

    Args:
        run: Run directory, checkpoint file, or name of a pretrained model.
        model: Its model.
        path: Path of the data set, if it has moved.
        warn: Called with a message.

    Raises:
        ValueError, FileNotFoundError: As `data.load`; images of another shape or other levels, or
            contexts that are not the model's.
    """
    data = load_images(model.config, path)
    check_recorded_images(run, None, data, model.image_shape, model.levels)
    contexts = own_contexts(data, "test", model.context_spec)
    facts = {"data_sha256": model.data_sha256}
    try:
        check_images_of(run, facts, data, model.image_shape, model.levels)
    except ValueError as error:
        warn(f"the images may be among those of the training: {error}")
        return HeldOut(data.test, contexts, f"images of {data.name}, which are not the run's")
    return HeldOut(data.test, contexts, "held-out images")
