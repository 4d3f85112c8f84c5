"""Weights to start from: those of another run or of a checkpoint file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flowpp.config import Config
from flowpp.config.context_spec import ContextSpec
from flowpp.model import FlowPlusPlus
from flowpp.runs.checkpoint import CheckpointError
from flowpp.runs.open_model import open_model
from flowpp.runs.pretrained import is_pretrained
from flowpp.runs.run import Run
from flowpp.runtime.distributed import ProcessGroup
from flowpp.runtime.hashing import weights_hash
from flowpp.runtime.image_checks import Shape

SHOWN = 6
"""Number of tensors or names that a line has."""
LABELS = "context_encoder.embedding"
"""Tensor with a row for each class."""
VECTORS = ("context_encoder.mean", "context_encoder.scale", "context_encoder.weight")
"""Tensors with a column for each column of vectors."""


@dataclass(frozen=True, eq=False)
class InitialWeights:
    """Trained weights that a run starts from, instead of fresh ones.

    They are averaged weights, where the source has averages.

    Args:
        path: the run or checkpoint file, or the name of a pretrained model.
        step: number of steps they were trained.
        weights: the tensors, by name.
        config: settings they were trained with.
        levels: number of values of a channel they were trained with.
        image_shape: (channels, height, width) of the images they were trained on, if known.
        context: what their model is conditioned on.
    """

    path: Path
    step: int
    weights: dict[str, Tensor]
    config: Config
    levels: int
    image_shape: Shape | None = None
    context: ContextSpec | None = None
    sha256: str = field(init=False)
    """Hash of the tensors, as in receipts."""

    def __post_init__(self) -> None:
        """Hash the tensors."""
        object.__setattr__(self, "sha256", weights_hash(self.weights))

    @classmethod
    def read(cls, path: Path | str) -> InitialWeights:
        """Read the newest checkpoint of a run, or what else `open_model` opens.

        Raises:
            FileNotFoundError: the run or its checkpoint does not exist.
            ValueError: the settings or the checkpoint are damaged.
        """
        opened = open_model(Path(path))
        weights = dict(opened.model.state_dict())
        return cls(
            Path(path), opened.checkpoint.step, weights, opened.config, opened.model.levels,
            opened.image_shape, opened.model.context_spec,
        )  # fmt: skip

    @property
    def record(self) -> dict[str, Any]:
        """The entry of environment.json about the source."""
        # The package may lie elsewhere when the run is resumed, so a name stays a name.
        path = self.path if is_pretrained(self.path) else self.path.resolve()
        return {
            "path": str(path),
            "sha256": self.sha256,
            "step": self.step,
            "preset": self.config.preset,
        }

    def description(self, model: FlowPlusPlus) -> str:
        """Return a line for the user on the start of `model`."""
        levels = f"; trained with {self.levels} levels, now {model.levels}"
        own, now = _described(self.context), _described(model.context_spec)
        return (
            f"starting from the averaged weights of {self.path} after step {self.step}, without "
            "data-dependent initialization"
            + levels * (self.levels != model.levels)
            + f"; trained {own}, now {now}" * (own != now)
            + self._names_note(model)
        )

    def _names_note(self, model: FlowPlusPlus) -> str:
        """Return which names take the weights of others, if any do."""
        own, now = _names(self.context), _names(model.context_spec)
        places = enumerate(_order(own, now))
        changed = [f"{now[i]} from {own[k]}" for i, k in places if own[k] != now[i]]
        if not changed:
            return ""
        more = ", ..." * (len(changed) > SHOWN)
        return f"; weights of names that are new: {', '.join(changed[:SHOWN])}{more}"

    def check(self, model: FlowPlusPlus) -> None:
        """Require that each tensor fits the model.

        Raises:
            CheckpointError: tensors are missing, surplus, or of another shape; the message names
                them, and the settings that they depend on.
        """
        target = model.state_dict()
        wrong = [
            f"{name} needs {tuple(tensor.shape)}, got "
            f"{tuple(self.weights[name].shape) if name in self.weights else 'none'}"
            for name, tensor in target.items()
            if name not in self.weights or self.weights[name].shape != tensor.shape
        ]
        wrong += [f"{name} is not in the model" for name in self.weights if name not in target]
        if wrong:
            shown = "; ".join(wrong[:SHOWN]) + "; ..." * (len(wrong) > SHOWN)
            hints = self._context_hint(model) + self._size_hint(model)
            raise CheckpointError(
                f"the weights of {self.path} do not fit: {len(wrong)} of {len(target)} tensors "
                f"differ: {shown}. {hints}Position embeddings (attention) and "
                "act_norm 'activation' have the images' height and width, everything has the "
                "source's model settings and number of channels"
            )

    def _context_hint(self, model: FlowPlusPlus) -> str:
        """Return what the two models are conditioned on, if they differ."""
        own, now = _described(self.context), _described(model.context_spec)
        return "" if own == now else f"The weights are of a model {own}, this one is {now}. "

    def _size_hint(self, model: FlowPlusPlus) -> str:
        """Return how to train on images of the source's size, if they are of another."""
        own, now = self.image_shape, model.image_shape
        if own is None or now is None or own == now:
            return ""
        settings = [f"data.size {own[1]}x{own[2]}"] * (own[1:] != now[1:])
        settings += [f"data.channels {own[0]}"] * (own[0] != now[0])
        return (
            f"The weights were trained on images of shape {own}, got {now}: "
            f"{' and '.join(settings)} makes them fit. "
        )

    @torch.no_grad()
    def copy_into(self, model: FlowPlusPlus) -> None:
        """Copy the weights into a model on any device; raises as `check`."""
        self.check(model)
        weights = self._by_names(model)
        for name, tensor in model.state_dict().items():
            tensor.copy_(weights[name])
        model.initialized = True

    def _by_names(self, model: FlowPlusPlus) -> dict[str, Tensor]:
        """Return the weights, those of classes and columns in the order of the model's names."""
        order = _order(_names(self.context), _names(model.context_spec))
        if order == list(range(len(order))):
            return self.weights
        weights = dict(self.weights)
        if LABELS in weights:
            weights[LABELS] = weights[LABELS][[*order, len(order)]]  # the last is that for none
        for name in VECTORS:
            if name in weights:
                weights[name] = weights[name][..., order]
        return weights


def _names(context: ContextSpec | None) -> tuple[str, ...]:
    return () if context is None else context.names


def _order(own: Sequence[str], now: Sequence[str]) -> list[int]:
    """Return the place in `own` for each name of `now`: its own, or a place that is left over.

    Empty for names that are unknown or of another number.
    """
    if len(own) != len(now):
        return []
    place = {name: i for i, name in enumerate(own)}
    left = iter(sorted(place[name] for name in place.keys() - set(now)))
    return [place[name] if name in place else next(left) for name in now]


def _described(context: ContextSpec | None) -> str:
    """Return what a model is conditioned on, with the names of its classes."""
    if context is None:
        return "without contexts"
    named = f" ({', '.join(context.names[:SHOWN])}{', ...' * (len(context.names) > SHOWN)})"
    return f"conditioned on {context.description}" + named * bool(context.names)


def start_from(
    source: Path | str,
    model: FlowPlusPlus,
    group: ProcessGroup,
    sha256: str | None = None,
) -> InitialWeights | None:
    """Copy weights into the model of rank 0, from which the other processes get theirs.

    Args:
        source: a run or a checkpoint file.
        model: the model to train.
        group: processes that train together.
        sha256: hash that the weights must have, if given.

    Returns:
        The weights in rank 0, None in other processes.

    Raises:
        CheckpointError: the weights do not fit, or have another hash.
        FileNotFoundError, ValueError: as `InitialWeights.read`.
    """
    read: list[InitialWeights] = []

    def copy() -> None:
        weights = InitialWeights.read(source)
        if sha256 not in (None, weights.sha256):
            raise CheckpointError(
                f"the run was started from weights of {weights.path} with hash "
                f"{str(sha256)[:12]}..., got {weights.sha256[:12]}..., and has no checkpoint yet: "
                "start it anew"
            )
        weights.copy_into(model)
        read.append(weights)

    group.from_main(copy)
    model.initialized = True
    return read[0] if read else None


def start_as_recorded(run: Run, model: FlowPlusPlus, group: ProcessGroup) -> InitialWeights | None:
    """Start a run without checkpoints again from the weights that its environment.json names.

    Returns:
        As `start_from`; None if the run began with fresh weights.

    Raises:
        CheckpointError: the source has other weights now.
        FileNotFoundError, ValueError: the source or its record is missing or damaged.
    """

    def recorded() -> tuple[str, str] | None:
        file = run.path / "environment.json"
        try:
            record = run.facts("environment.json").get("init_from")
            return None if record is None else (str(record["path"]), str(record["sha256"]))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise CheckpointError(str(error)) from error
        except (KeyError, TypeError) as error:
            raise CheckpointError(f"{file} is damaged: {error}") from error

    found = group.from_main(recorded)
    return None if found is None else start_from(found[0], model, group, found[1])
