"""Load the data and build the model, failing early on invalid settings."""

from __future__ import annotations

import torch

from flowpp import data
from flowpp.config import Config, TrainingConfig
from flowpp.config.build import build_model, set_compute
from flowpp.kernels.backend import check_variable
from flowpp.model import FlowPlusPlus
from flowpp.runtime.device import local_device, to_device
from flowpp.runtime.distributed import SINGLE_PROCESS, ProcessGroup

Prepared = tuple[data.ImageSet, FlowPlusPlus]


def prepare(config: Config, group: ProcessGroup = SINGLE_PROCESS) -> Prepared:
    """Load the images and build a model with fresh weights.

    Raises:
        FileNotFoundError: A data file is missing.
        TypeError, ValueError: Settings that do not describe a model or a run.
    """
    settings = config.training
    images = data.load(config.data)
    _check_batches(settings, images, group)
    generator = torch.Generator().manual_seed(settings.seed)
    model = build_model(
        config.model, image_shape=images.shape, levels=images.levels, generator=generator
    )
    set_compute(model, memory=settings.memory, precision=settings.precision)
    device = local_device(settings.device)
    model = to_device(model, device)
    check_variable(device)
    return images, model


def _check_batches(settings: TrainingConfig, images: data.ImageSet, group: ProcessGroup) -> None:
    for name in ("batch_size", "init_batch_size"):
        if getattr(settings, name) > len(images.train):
            raise ValueError(
                f"training.{name} must be at most the {len(images.train)} training images of "
                f"{images.name}, got {getattr(settings, name)}"
            )
    if settings.batch_size % group.size:
        raise ValueError(
            f"training.batch_size must be a multiple of the {group.size} processes, "
            f"got {settings.batch_size}"
        )
    if settings.accumulate > settings.batch_size // group.size:
        raise ValueError(
            f"training.accumulate must be at most the {settings.batch_size // group.size} images "
            f"of one process, got {settings.accumulate}"
        )
