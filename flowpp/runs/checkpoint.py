"""Checkpoints: weights, their moving average and a run's state in one safetensors file.

A safetensors file contains named tensors and a little text, so reading it cannot execute code. The
text includes a hash of everything else, which detects damaged files.
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

from flowpp.model import FlowPlusPlus
from flowpp.runtime.bounded import FileError, brief, parse_json
from flowpp.runtime.files import atomic_write
from flowpp.runtime.hashing import weights_hash
from flowpp.runtime.safetensors_header import check_count, check_header

FORMAT = "flowpp-checkpoint-2"
UNHASHED = "flowpp-checkpoint-1"
"""Former format of weights and averages without a hash: can be read but not resumed from."""
REAL = frozenset({torch.float64, torch.float32, torch.bfloat16, torch.float16})
_WEIGHTS, _EMA, _STATE = "weights/", "ema/", "state/"


class CheckpointError(ValueError):
    """Raised if a checkpoint is damaged, or belongs to another model or other data."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The state of a training run: enough to evaluate the model and to resume training."""

    step: int
    weights: Mapping[str, Tensor]
    """`model.state_dict()`, buffers included."""
    ema: Mapping[str, Tensor]
    """Moving averages by parameter name; buffers have none."""
    state: Mapping[str, Tensor] = field(default_factory=dict)
    """Optimizer and random states, named by `flowpp.training.state`; empty in exports."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Plain values as JSON has them. Exports have those of `open_model.model_facts`: config,
    image_shape, levels; those of runs also data_sha256, and weights, which says how they were
    made; pretrained models also name and receipt. `TrainingState.capture` adds data_sha256;
    processes, threads, torch and processor; optimizer, and values of the optimizer and the batches
    as optimizer_NAME and batches_NAME; skipped, skipped_in_a_row, recent, seconds, random. Version
    0.1.0 did not write torch, processor and optimizer."""

    def save(self, path: Path) -> None:
        """Write the file atomically.

        Raises:
            OSError: the file could not be written; an existing one is unchanged.
        """
        tensors = {
            prefix + name: tensor
            for prefix, group in ((_WEIGHTS, self.weights), (_EMA, self.ema), (_STATE, self.state))
            for name, tensor in group.items()
        }
        # Copied, because safetensors refuses tensors that share memory.
        tensors = {
            name: t.detach().to("cpu", copy=True).contiguous() for name, t in tensors.items()
        }
        facts = json.dumps(dict(self.facts), allow_nan=False)
        metadata = {"format": FORMAT, "step": str(self.step), "facts": facts}
        metadata["sha256"] = _digest(tensors, metadata)
        try:
            with atomic_write(path) as temporary:
                save_file(tensors, temporary, metadata)
        except (SafetensorError, OSError) as error:
            raise OSError(f"checkpoint {path} could not be written ({error})") from error

    @classmethod
    def load(cls, path: Path) -> Checkpoint:
        """Read and verify a file that `save` wrote.

        Raises:
            FileNotFoundError: the file does not exist.
            OSError: it cannot be read.
            CheckpointError: it is truncated, damaged, or not a checkpoint of this library.
        """
        metadata, tensors = _read(path)
        if metadata.get("format") not in (FORMAT, UNHASHED):
            raise CheckpointError(
                f"{path} is not a checkpoint: format must be {FORMAT!r}, "
                f"got {metadata.get('format')!r}"
            )
        if metadata["format"] == FORMAT and metadata.get("sha256") != _digest(tensors, metadata):
            raise _damaged(path, "its hash does not match")
        text = metadata.get("step", "")
        if not text.isdecimal():
            raise CheckpointError(
                f"checkpoint {path} is damaged: step must be a whole number, got {text!r}"
            )
        try:
            step, facts = (
                parse_json(text.lstrip("0") or "0"),
                parse_json(metadata.get("facts", "{}")),
            )
        except ValueError as error:
            raise _damaged(path, error) from error
        if not isinstance(facts, dict):
            raise _damaged(path, f"its facts must be an object, got {type(facts).__name__}")
        return cls(
            step=step,
            weights=_with_prefix(tensors, _WEIGHTS),
            ema=_with_prefix(tensors, _EMA),
            state=_with_prefix(tensors, _STATE),
            facts=facts,
        )

    def restore(self, model: nn.Module, *, average: bool) -> None:
        """Copy the weights into `model`; with `average`, moving averages where there are any.

        Raises:
            CheckpointError: names or shapes differ from the model's, or a weight is not finite.
        """
        source = self.selected_weights(average=average)
        self._check_finite("weights", source)
        copy_into(model.state_dict(), source)
        if isinstance(model, FlowPlusPlus):
            model.initialized = True

    def check_finite(self) -> None:
        """Require finite weights, averages and training state, such as Adam's moments.

        Raises:
            CheckpointError: a number is NaN or infinite.
        """
        groups = {
            "weights": self.weights, "averaged weights": self.ema, "training state": self.state
        }  # fmt: skip
        for what, tensors in groups.items():
            self._check_finite(what, tensors)

    def _check_finite(self, what: str, tensors: Mapping[str, Tensor]) -> None:
        for name, tensor in tensors.items():
            if not torch.isfinite(tensor).all():
                raise CheckpointError(
                    f"{what} must be finite, got NaN or infinity in {name} at step {self.step}"
                )

    def selected_weights(self, *, average: bool) -> dict[str, Tensor]:
        """Return the tensors that `restore` copies."""
        return {**self.weights, **self.ema} if average else dict(self.weights)


@torch.no_grad()
def copy_into(target: Mapping[str, Tensor], source: Mapping[str, Tensor]) -> None:
    """Overwrite each tensor of `target` with the tensor of the same name.

    Raises:
        CheckpointError: names, shapes or dtypes differ; `target` is unchanged.
    """
    check_shapes(target, source)
    for name, tensor in source.items():
        target[name].copy_(tensor)


def check_shapes(target: Mapping[str, Tensor], source: Mapping[str, Tensor]) -> None:
    """Require tensors of the same names, shapes and kinds of dtype.

    Raises:
        CheckpointError: the tensors differ.
    """
    if source.keys() != target.keys():
        missing = sorted(target.keys() - source.keys())
        surplus = sorted(source.keys() - target.keys())
        raise CheckpointError(
            f"checkpoint belongs to another model: missing {_summary(missing)}, "
            f"surplus {_summary(surplus)}"
        )
    for name, tensor in source.items():
        if tensor.shape != target[name].shape:
            raise CheckpointError(
                f"checkpoint belongs to another model: {name} must have shape "
                f"{tuple(target[name].shape)}, got {tuple(tensor.shape)}"
            )
        accepted = REAL if target[name].dtype in REAL else {target[name].dtype}
        if tensor.dtype not in accepted:
            raise CheckpointError(
                f"checkpoint belongs to another model: {name} must have dtype "
                f"{target[name].dtype}, got {tensor.dtype}"
            )


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Return the text and the tensors of a safetensors file; raises as `Checkpoint.load`."""
    try:
        check_header(path)
        with safe_open(path, "pt") as file:
            names = check_count(path, file.keys())
            return file.metadata() or {}, {name: file.get_tensor(name) for name in names}
    except FileNotFoundError as error:
        raise FileNotFoundError(f"no checkpoint at {path}") from error
    except FileError as error:
        raise CheckpointError(f"checkpoint {error}") from error
    except OSError as error:  # such as a file of another user
        raise OSError(f"checkpoint {path} cannot be read ({error})") from error
    except Exception as error:  # damaged files raise more than SafetensorError
        raise _damaged(path, error) from error


def _digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    text = json.dumps({name: metadata.get(name) for name in ("format", "step", "facts")})
    return hashlib.sha256((text + weights_hash(tensors)).encode()).hexdigest()


def _damaged(path: Path, why: Exception | str) -> CheckpointError:
    return CheckpointError(f"checkpoint {path} is truncated or damaged ({brief(why)})")


def _with_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def _summary(names: list[str]) -> str:
    return "none" if not names else f"{names[0]} ({len(names)} in all)"
