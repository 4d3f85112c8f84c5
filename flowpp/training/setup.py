"""Load the data and build the model, failing early on invalid settings; the initial state."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch

from flowpp import data
from flowpp.conditioner.conv2d import use_channels_last
from flowpp.config import Config, TrainingConfig, checks
from flowpp.config.build import build_model, set_compute
from flowpp.config.context_spec import ContextSpec
from flowpp.config.image_sizes import check_layouts
from flowpp.config.serialization import checked
from flowpp.context import VectorEncoder
from flowpp.data.image_set import LABELS
from flowpp.kernels.backend import check_variable
from flowpp.model import FlowPlusPlus
from flowpp.runs.checkpoint import Checkpoint
from flowpp.runtime.device import local_device, to_device
from flowpp.runtime.distributed import SINGLE_PROCESS, ProcessGroup
from flowpp.runtime.random_state import seed_all
from flowpp.training.batches import NoisyImages, ShuffledBatches, noise_generator
from flowpp.training.captured_step import uses_graph
from flowpp.training.contexts import TrainingContexts
from flowpp.training.ema import EMA
from flowpp.training.first_batch import with_different_contexts
from flowpp.training.initial_weights import InitialWeights
from flowpp.training.initialization import initialize
from flowpp.training.learning_rate import warm_up_note, zero_rate_note
from flowpp.training.one_vector import lay_out_parameters
from flowpp.training.optimizer import make_optimizer
from flowpp.training.state import TrainingState

MIN_COUNTS = {"train": 8, "valid": 2, "test": 2}
"""Images without which a loss or, for fewer than two, a standard error would be meaningless."""
FAR = 5.0
"""Mean and deviation of standardized vectors above which they count as of another scale."""
Prepared = tuple[data.ImageSet, FlowPlusPlus]


SETTINGS = {
    "ModelConfig": "dataclasses.replace(presets.get(NAME), model=...)",
    "str": "flowpp.config.presets.get(NAME)",
    "dict": "flowpp.config.serialization.from_dict(Config, config)",
}
"""Replacement to suggest for settings of the wrong kind, by name of their class."""


def checked_settings(config: Config, prepared: Prepared | None = None) -> Config:
    """Return the settings with Python's numbers for NumPy's.

    Raises:
        TypeError: Settings of another class; `prepared` that does not come from `prepare`.
        ValueError: A setting of another type.
    """
    checks.kind_of("config", config, Config, SETTINGS)
    if prepared is not None:
        _check_prepared(prepared)
    return checked(config)


def _check_prepared(prepared: Prepared) -> None:
    """Require images and a model for them."""
    if not isinstance(prepared, tuple) or len(prepared) != 2:
        raise TypeError(
            f"prepared must be what prepare(config) returns, got {type(prepared).__name__}; to "
            "train on images in memory use flowpp.fit"
        )
    images, model = prepared
    checks.kind_of("prepared[0]", images, data.ImageSet, {"ndarray": "data.ImageSet(...)"})
    checks.kind_of("prepared[1]", model, FlowPlusPlus, {"TrainedModel": "model.model"})
    if (model.image_shape or images.shape, model.levels) != (images.shape, images.levels):
        raise ValueError(
            f"the prepared model must be for images of shape {images.shape} and {images.levels} "
            f"levels, got one for {model.image_shape} and {model.levels}"
        )
    if model.context_spec != images.context:
        raise ValueError(
            f"the prepared model must be {_conditioned_on(images.context)}, as its images are, "
            f"got one {_conditioned_on(model.context_spec)}"
        )


def _conditioned_on(context: ContextSpec | None) -> str:
    return "unconditional" if context is None else f"conditioned on {context.description}"


def prepare(
    config: Config,
    group: ProcessGroup = SINGLE_PROCESS,
    *,
    images: data.ImageSet | None = None,
) -> Prepared:
    """Load the images and build a model with fresh weights.

    Args:
        config: All settings.
        group: Processes that train together.
        images: Data set, if it is not that of `config.data`.

    Raises:
        FileNotFoundError: A data file is missing.
        TypeError, ValueError: Settings that do not describe a model or a run.
    """
    config = checked_settings(config)
    settings = config.training
    if images is None:
        images = data.load(config.data)
        _check_counts(images)
    checks.kind_of("images", images, data.ImageSet, {"ndarray": "data.ImageSet(...)"})
    _check_batches(settings, images, group)
    _check_same_images(images, group)
    check_layouts(config.model, images.shape, "data.size")
    generator = torch.Generator().manual_seed(settings.seed)
    model = build_model(
        config.model, images.shape, images.levels, generator, context=images.context
    )
    set_compute(model, memory=settings.memory, precision=settings.precision)
    device = local_device(settings.device)
    model = to_device(model, device)
    uses_graph(settings, torch.device(device), group)  # refuses what is not possible
    if torch.device(device).type == "cuda":
        use_channels_last(model)
    check_variable(device)
    return images, model


def _check_same_images(images: data.ImageSet, group: ProcessGroup) -> None:
    """Require the images of rank 0, since each machine reads its own."""
    name, sha256 = group.broadcast_object((images.name, images.sha256))
    if images.sha256 != sha256:
        raise ValueError(
            f"all machines must have the images of the first, {name} with hash "
            f"{sha256[:12]}..., got {images.name} with hash {images.sha256[:12]}..."
        )


def _check_counts(images: data.ImageSet) -> None:
    counts = {"train": images.train, "valid": images.valid, "test": images.test}
    given = {part: len(part_images) for part, part_images in counts.items()
             if part_images is not None}  # fmt: skip
    few = [part for part, count in given.items() if count < MIN_COUNTS[part]]
    if few:
        got = ", ".join(f"{count} {LABELS[part]}" for part, count in given.items())
        raise ValueError(
            f"{images.name} must have at least {MIN_COUNTS['train']} training images and "
            f"{MIN_COUNTS['test']} in every other part, got {got}: from fewer, neither a loss nor "
            "its standard error can be estimated; use more images, or hold out more of them by "
            "data.split 'fifth' or folders train and test"
        )


def _check_batches(settings: TrainingConfig, images: data.ImageSet, group: ProcessGroup) -> None:
    if settings.batch_size > len(images.train):
        raise ValueError(
            f"training.batch_size must be at most the {len(images.train)} training images of "
            f"{images.name}, got {settings.batch_size}"
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


def first_lines(
    config: Config,
    images: data.ImageSet,
    model: FlowPlusPlus,
    out: Path,
    source: InitialWeights | None,
) -> list[str]:
    """Return the lines that a run begins with: what is trained on which images, from where."""
    weights = list(model.parameters())
    lines = [
        f"preset {config.preset}, data {images.name}: {len(images.train)} training images of "
        f"shape {images.shape}, {sum(p.numel() for p in weights):,} weights, "
        f"on {weights[0].device}, {out}",
        *images.description(),
        *images.notes,
    ]
    lines += [config.data.augmentation] if config.data.augmentation else []
    lines += warm_up_note(config.training) + zero_rate_note(config.training)
    if source is None:
        return lines
    return [*lines, source.description(model), *_scale_note(images, model)]


def _scale_note(images: data.ImageSet, model: FlowPlusPlus) -> list[str]:
    """Return a line on vectors far from those that trained weights were standardized for."""
    encoder, vectors = model.context_encoder, images.context_of("train")
    if not isinstance(encoder, VectorEncoder) or vectors is None:
        return []
    mean, scale = (field.double().cpu().numpy() for field in (encoder.mean, encoder.scale))
    standardized = (vectors - mean) / scale
    far = (np.abs(standardized.mean(axis=0)) > FAR) | (standardized.std(axis=0) > FAR)
    if not far.any():
        return []
    column = int(far.argmax())
    name = images.context.names[column] if images.context and images.context.names else column + 1
    return [
        f"contexts are of another scale than those of the weights, such as column {name}: mean "
        f"{vectors[:, column].mean():.3g}, where theirs was {mean[column]:.3g} with deviation "
        f"{scale[column]:.3g}"
    ]


def initial_state(
    config: Config,
    images: data.ImageSet,
    model: FlowPlusPlus,
    group: ProcessGroup,
    checkpoint: Checkpoint | None,
) -> tuple[TrainingState, NoisyImages]:
    """Return an initialized state, or that of the checkpoint, and the source of the batches.

    Only fresh weights are initialized from data, not those of a model that has been trained.
    """
    settings, start = config.training, time.perf_counter()
    # Two sources of randomness: torch's global one for dropout, and a generator for batches and
    # noise. With several processes each has a third for the noise of its own rows.
    seed_all(settings.seed, group.rank)
    generator = torch.Generator().manual_seed(settings.seed)
    draws = settings.importance_samples
    contexts = TrainingContexts.of(images, settings.label_dropout)
    inputs = NoisyImages(
        images.train, model, flip=config.data.flip, draws=draws, contexts=contexts
    )
    model.train()
    first = torch.randperm(len(inputs), generator=generator)[: settings.init_batch_size]
    batch = inputs.draw(with_different_contexts(first, images), generator, draws=1)
    if group.is_main and checkpoint is None and not model.initialized:
        initialize(model, *batch)
    group.broadcast(model)
    device = inputs.device
    if (
        device.type == "cuda" and group.size == 1
    ):  # several processes send gradients from buffers of their own
        lay_out_parameters(model)
    state = TrainingState(
        model,
        EMA(model, settings.ema_decay),
        make_optimizer(model, settings),
        ShuffledBatches(len(inputs), settings.batch_size, generator),
        generator if group.size == 1 else noise_generator(settings.seed, group.rank),
        device,
        start=start,
    )
    if checkpoint is not None:
        state.restore(checkpoint, group)
    return state, inputs
