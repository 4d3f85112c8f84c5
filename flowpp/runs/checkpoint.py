"""Checkpoints: weights, their average and the state of a run in one safetensors file.

safetensors holds names, numbers and a little text, so reading a checkpoint cannot run code. The
text holds a hash of everything else in the file: a flipped bit is found before it is trained on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from flowpp.runtime.files import atomic_write
from flowpp.runtime.hashing import weights_hash

FORMAT = "flowpp-checkpoint-2"
UNHASHED = "flowpp-checkpoint-1"
"""Weights and their average alone, without a hash: read, but no run can go on from it."""
REAL = frozenset({torch.float64, torch.float32, torch.bfloat16, torch.float16})
_WEIGHTS, _EMA, _STATE = "weights/", "ema/", "state/"


class CheckpointError(ValueError):
    """A checkpoint is damaged, or belongs to another model, other data, or no run."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What a training run keeps: enough to evaluate the model, and to go on training it."""

    step: int
    weights: Mapping[str, Tensor]
    """`model.state_dict()`, buffers included."""
    ema: Mapping[str, Tensor]
    """Averages by parameter name; constants have none."""
    state: Mapping[str, Tensor] = field(default_factory=dict)
    """Optimizer and random states, named by `flowpp.training.state`; empty in a model's export."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Plain values: counters, settings, hash of the data."""

    def save(self, path: Path) -> None:
        """Write in one piece: a crash leaves the former file, or none.

        Raises:
            OSError: the file could not be written; the former one is as it was.
        """
        tensors = {
            prefix + name: tensor
            for prefix, group in ((_WEIGHTS, self.weights), (_EMA, self.ema), (_STATE, self.state))
            for name, tensor in group.items()
        }
        # Copies on the CPU: safetensors refuses tensors that share or only view memory.
        tensors = {
            name: t.detach().to("cpu", copy=True).contiguous() for name, t in tensors.items()
        }
        facts = json.dumps(dict(self.facts))
        metadata = {"format": FORMAT, "step": str(self.step), "facts": facts}
        metadata["sha256"] = _digest(tensors, metadata)
        try:
            with atomic_write(path) as temporary:
                save_file(tensors, temporary, metadata)
        except (SafetensorError, OSError) as error:
            raise OSError(f"checkpoint {path} could not be written ({error})") from error

    @classmethod
    def load(cls, path: Path) -> Checkpoint:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: there is no such file.
            OSError: it cannot be read.
            CheckpointError: the file is truncated, damaged, or no checkpoint of this library.
        """
        if not path.is_file():
            raise FileNotFoundError(f"no checkpoint at {path}")
        try:
            with safe_open(path, "pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}
        except OSError as error:
            raise OSError(f"checkpoint {path} cannot be read ({error})") from error
        except Exception as error:  # a damaged file may raise other things than its own error
            raise CheckpointError(
                f"checkpoint {path} is truncated or damaged ({error})"
            ) from error
        if metadata.get("format") not in (FORMAT, UNHASHED):
            raise CheckpointError(
                f"{path} is no checkpoint: needed format {FORMAT!r}, "
                f"got {metadata.get('format')!r}"
            )
        if metadata["format"] == FORMAT and metadata.get("sha256") != _digest(tensors, metadata):
            raise _damaged(path, "its hash is another")
        text = metadata.get("step", "")
        if not text.isdecimal():
            raise CheckpointError(
                f"checkpoint {path} needs its step, a whole number, got {text!r}"
            )
        try:
            step, facts = int(text), json.loads(metadata.get("facts", "{}"))
        except (ValueError, RecursionError) as error:
            raise _damaged(path, error) from error
        if not isinstance(facts, dict):
            raise _damaged(path, "its facts are no table")
        return cls(
            step=step,
            weights=_below(tensors, _WEIGHTS),
            ema=_below(tensors, _EMA),
            state=_below(tensors, _STATE),
            facts=facts,
        )

    def restore(self, model: nn.Module, *, average: bool) -> None:
        """Copy the weights into `model`; with `average`, the moving average where there is one.

        Raises:
            CheckpointError: names or shapes differ from the model's: it is another model's; or a
                weight is infinite or NaN.
        """
        source = self.used(average=average)
        for name, tensor in source.items():
            if not torch.isfinite(tensor).all():
                raise CheckpointError(
                    f"the checkpoint of step {self.step} has a weight that is not finite: {name}"
                )
        copy_into(model.state_dict(), source)

    def used(self, *, average: bool) -> dict[str, Tensor]:
        """The tensors that `restore` copies."""
        return {**self.weights, **self.ema} if average else dict(self.weights)


@torch.no_grad()
def copy_into(target: Mapping[str, Tensor], source: Mapping[str, Tensor]) -> None:
    """Overwrite every tensor of `target` by the one of the same name.

    Raises:
        CheckpointError: names or shapes differ; nothing has been overwritten.
    """
    check_shapes(target, source)
    for name, tensor in source.items():
        target[name].copy_(tensor)


def check_shapes(target: Mapping[str, Tensor], source: Mapping[str, Tensor]) -> None:
    """Whether the tensors of `source` are those of `target`, by name, shape and kind.

    Raises:
        CheckpointError: they are not.
    """
    if source.keys() != target.keys():
        missing = sorted(target.keys() - source.keys())
        surplus = sorted(source.keys() - target.keys())
        raise CheckpointError(
            f"checkpoint belongs to another model: it lacks {_some(missing)} "
            f"and has {_some(surplus)} besides"
        )
    for name, tensor in source.items():
        if tensor.shape != target[name].shape:
            raise CheckpointError(
                f"checkpoint belongs to another model: {name} needs shape "
                f"{tuple(target[name].shape)}, got {tuple(tensor.shape)}"
            )
        kinds = REAL if target[name].dtype in REAL else {target[name].dtype}
        if tensor.dtype not in kinds:
            raise CheckpointError(
                f"checkpoint belongs to another model: {name} needs numbers of "
                f"{target[name].dtype}, got {tensor.dtype}"
            )


def _digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    text = json.dumps({name: metadata.get(name) for name in ("format", "step", "facts")})
    return hashlib.sha256((text + weights_hash(tensors)).encode()).hexdigest()


def _damaged(path: Path, why: object) -> CheckpointError:
    return CheckpointError(f"checkpoint {path} is truncated or damaged ({why})")


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def _some(names: list[str]) -> str:
    return "nothing" if not names else f"{names[0]} ({len(names)} in all)"
