"""Open a trained model: its settings, weights and data set, from a run or a checkpoint file."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from flowpp import data
from flowpp.config import Config, ModelConfig
from flowpp.config.build import Shape, build_model
from flowpp.config.context_spec import ContextSpec
from flowpp.config.layout import parse_layout
from flowpp.config.serialization import from_dict, to_dict
from flowpp.data import ImageSet
from flowpp.data.own_labels import OWN
from flowpp.model import FlowPlusPlus
from flowpp.runs.checkpoint import Checkpoint, CheckpointError, check_shapes
from flowpp.runs.pretrained import find_model
from flowpp.runs.run import Run
from flowpp.runtime.device import to_device
from flowpp.runtime.hashing import weights_hash

LARGEST = 1 << 16
"""Upper bound on a checkpoint's image sides, channels and levels."""


@dataclass(frozen=True, eq=False)
class OpenedModel:
    """A restored model and where it came from.

    Args:
        model: the model in evaluation mode, with averaged weights where there are any.
        config: the settings it was trained with.
        image_shape: (channels, height, width).
        checkpoint: the checkpoint that the weights were read from.
    """

    model: FlowPlusPlus
    config: Config
    image_shape: Shape
    checkpoint: Checkpoint


def open_model(
    path: Path,
    *,
    which: Literal["newest", "best"] = "newest",
    weights_sha256: str | None = None,
    config: Config | None = None,
    device: str = "cpu",
    warn: Callable[[str], None] | None = None,
) -> OpenedModel:
    """Restore the model of a run directory, of a single checkpoint file, or of the package.

    Args:
        path: a run directory, a checkpoint file with its settings inside, or the name of a
            pretrained model, see `pretrained.find_model`.
        which: the checkpoint of a run directory: the newest, or the best on held-out images.
        weights_sha256: if given, the hash of the averaged weights, by which the checkpoint of a
            run directory is chosen instead of by `which`.
        config: settings to use instead of the stored ones.
        device: where to put the model.
        warn: called with a message for each damaged newest checkpoint that is skipped, and if
            `path` is also the name of a pretrained model; if None, a damaged newest checkpoint is
            an error.

    Raises:
        FileNotFoundError: the run or its checkpoint does not exist.
        CheckpointError: the checkpoint is damaged, or the settings describe another model.
        ValueError: the settings are damaged, the device is not usable, or no checkpoint has
            weights of `weights_sha256`.
    """
    path = find_model(path, warn)
    if is_file(path):
        _refuse_torch_save(path)
        checkpoint = Checkpoint.load(path)
        if weights_sha256 not in (None, weights_hash(checkpoint.selected_weights(average=True))):
            raise ValueError(f"{path} has no weights with hash {weights_sha256!s:.12}...")
        config = config or _stored_config(checkpoint, path)
    else:
        run = Run.open(path)
        config = config or run.config()
        if weights_sha256 is None:
            checkpoint = run.load_checkpoint(which, warn)
        else:
            checkpoint = run.load_checkpoint_of_weights(weights_sha256)
    try:
        image_shape, levels = _image_shape(checkpoint, config)
        context = _context(checkpoint)
        model = _restored(checkpoint, config.model, image_shape, levels, context)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    return OpenedModel(to_device(model, device), config, image_shape, checkpoint)


def _refuse_torch_save(path: Path) -> None:
    if path.suffix in (".pt", ".pth") and zipfile.is_zipfile(path):
        raise CheckpointError(
            f"{path} must be a checkpoint of this library, got a file of torch.save: its weights "
            "go into a model by model.load_state_dict(torch.load(FILE))"
        )


def is_file(path: Path) -> bool:
    """Return whether `path` is, or should be, a checkpoint file and not a run directory."""
    return path.is_file() or (path.suffix == ".safetensors" and not path.is_dir())


def stored_settings(path: Path) -> Config:
    """Return the settings of a run, a checkpoint file or a pretrained model, as `open_model`."""
    path = find_model(path)
    if is_file(path):
        return _stored_config(Checkpoint.load(path), path)
    return Run.open(path).config()


def model_facts(
    config: Config, image_shape: Shape, levels: int, context: ContextSpec | None = None
) -> dict[str, Any]:
    """Return the facts that `open_model` needs in a checkpoint file.

    Args:
        config: settings of the run.
        image_shape: (channels, height, width).
        levels: number of values of a channel.
        context: description of a conditional model's contexts.
    """
    facts = {"config": to_dict(config), "image_shape": list(image_shape), "levels": levels}
    return facts if context is None else {**facts, "context": context.to_dict()}


def load_images(config: Config, path: str | None = None) -> ImageSet:
    """Load a run's data set, from another `path` if it has moved; raises as `data.load`.

    Files of labels or contexts that are gone are looked for beside the images, as they lay.
    """
    if path is None:
        with naming_moved_images():
            return data.load(config.data)
    if config.data.path is None:
        return data.load(replace(config.data, path=path))
    labels, context = config.data.labels, config.data.context
    if labels != OWN:
        labels = _beside(labels, config.data.path, path)
    if config.data.derived_context is None:
        context = _beside(context, config.data.path, path)
    return data.load(replace(config.data, path=path, labels=labels, context=context))


@contextmanager
def naming_moved_images() -> Iterator[None]:
    """Say in the error of a missing file how to name the present place of a run's images."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{error}; if the images have moved, --data.path says where they are"
        ) from error


def _beside(file: str | None, former: str, path: str) -> str | None:
    """Return the place of a file that was moved with the images, if it is there."""
    if file is None or Path(file).expanduser().exists():
        return file
    relative = os.path.relpath(Path(file).expanduser(), Path(former).expanduser())
    moved = os.path.normpath(Path(path).expanduser() / relative)
    return moved if os.path.exists(moved) else file


def _restored(
    checkpoint: Checkpoint,
    config: ModelConfig,
    image_shape: Shape,
    levels: int,
    context: ContextSpec | None,
) -> FlowPlusPlus:
    """Build a model and copy the checkpoint's averaged weights into it.

    Settings from elsewhere may describe a model of any size, so the model is first built on the
    meta device and its tensor shapes are compared with the checkpoint's.

    Raises:
        CheckpointError: the settings describe another model or none, or a weight is not finite.
    """
    _check_length(checkpoint, config)
    try:
        with torch.device("meta"):
            outline = build_model(config, image_shape, levels, context=context)
    except (ValueError, TypeError, RuntimeError, ArithmeticError) as error:
        raise CheckpointError(f"no model can be built from the settings: {error}") from error
    check_shapes(outline.state_dict(), checkpoint.selected_weights(average=True))
    model = build_model(config, image_shape, levels, context=context)
    checkpoint.restore(model, average=True)
    return model.eval()


def _check_length(checkpoint: Checkpoint, config: ModelConfig) -> None:
    """Compare the number of blocks with the number of tensors: each block has its own tensors."""
    tensors = len(checkpoint.weights)
    for flow in (config.flow, config.dequantizer):
        couplings = sum(stage.count for stage in parse_layout(flow.layout))
        if flow is config.dequantizer and not config.has_conditional_flow:
            continue
        if couplings * max(1, flow.blocks) > tensors:
            raise CheckpointError(
                f"checkpoint belongs to another model: {couplings} couplings of {flow.blocks} "
                f"blocks need more tensors than it has, got {tensors}"
            )
    if config.context.blocks > tensors:
        raise CheckpointError(
            f"checkpoint belongs to another model: a context network of {config.context.blocks} "
            f"blocks needs more tensors than it has, got {tensors}"
        )


def _stored_config(checkpoint: Checkpoint, path: Path) -> Config:
    try:
        return from_dict(Config, checkpoint.facts["config"])
    except KeyError as error:
        raise CheckpointError(f"{path} stores no settings; load its run directory") from error
    except (ValueError, TypeError, AttributeError, ArithmeticError) as error:
        raise CheckpointError(f"the settings stored in {path} are damaged: {error}") from error


def _context(checkpoint: Checkpoint) -> ContextSpec | None:
    """Return the description of a conditional model's contexts; None for other models."""
    if "context" not in checkpoint.facts:
        return None
    try:
        return ContextSpec.from_dict(checkpoint.facts["context"])
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"context is damaged in the checkpoint of step {checkpoint.step}: {error}"
        ) from error


def _image_shape(checkpoint: Checkpoint, config: Config) -> tuple[Shape, int]:
    """Return (channels, height, width) and the number of values of a channel."""
    if "image_shape" not in checkpoint.facts:  # written by other means than training
        return data.declared_shape(config.data)
    shape, levels = checkpoint.facts["image_shape"], checkpoint.facts.get("levels")
    numbers = [*shape, levels] if isinstance(shape, list) else []
    if len(numbers) != 4 or not all(type(n) is int and 0 < n <= LARGEST for n in numbers):
        raise CheckpointError(
            f"image_shape and levels must be 4 integers in 1 ... {LARGEST}, got {shape} and "
            f"{levels} in the checkpoint of step {checkpoint.step}"
        )
    channels, height, width, levels = numbers
    return (channels, height, width), levels
