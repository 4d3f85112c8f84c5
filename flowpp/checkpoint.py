"""Checkpoints: weights and their average in one safetensors file, which cannot hold code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from flowpp.files import replaced

FORMAT = "flowpp-checkpoint-1"
_WEIGHTS, _EMA = "weights/", "ema/"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What a training run keeps: the step, the model's weights, and their moving average."""

    step: int
    weights: Mapping[str, Tensor]
    """`model.state_dict()`, buffers included."""
    ema: Mapping[str, Tensor]
    """Averages by parameter name; constants have none."""

    def save(self, path: Path) -> None:
        """Write in one piece: a crash leaves the former file, or none."""
        tensors = {_WEIGHTS + name: t for name, t in self.weights.items()}
        tensors |= {_EMA + name: t for name, t in self.ema.items()}
        # Copies on the CPU: safetensors refuses tensors that share or only view memory.
        tensors = {
            name: t.detach().to("cpu", copy=True).contiguous() for name, t in tensors.items()
        }
        with replaced(path) as temporary:
            save_file(tensors, temporary, {"format": FORMAT, "step": str(self.step)})

    @classmethod
    def load(cls, path: Path) -> Checkpoint:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is truncated, damaged, or no checkpoint of this library.
        """
        if not path.is_file():
            raise FileNotFoundError(f"no checkpoint at {path}")
        try:
            with safe_open(path, "pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}
        except SafetensorError as error:
            raise ValueError(f"checkpoint {path} is truncated or damaged ({error})") from error
        if metadata.get("format") != FORMAT:
            raise ValueError(
                f"{path} is no checkpoint: needed format {FORMAT!r}, "
                f"got {metadata.get('format')!r}"
            )
        step = metadata.get("step", "")
        if not step.isdecimal():
            raise ValueError(f"checkpoint {path} needs its step, a whole number, got {step!r}")
        return cls(
            step=int(step),
            weights=_below(tensors, _WEIGHTS),
            ema=_below(tensors, _EMA),
        )

    def restore(self, model: nn.Module, *, average: bool) -> None:
        """Copy the weights into `model`; with `average`, the moving average where there is one.

        Raises:
            ValueError: names or shapes differ from the model's, as for another model's checkpoint.
        """
        source = {**self.weights, **self.ema} if average else dict(self.weights)
        target = model.state_dict()
        if source.keys() != target.keys():
            missing = sorted(target.keys() - source.keys())
            surplus = sorted(source.keys() - target.keys())
            raise ValueError(
                f"checkpoint belongs to another model: it lacks {_some(missing)} "
                f"and has {_some(surplus)} besides"
            )
        for name, tensor in source.items():
            if tensor.shape != target[name].shape:
                raise ValueError(
                    f"checkpoint belongs to another model: {name} needs shape "
                    f"{tuple(target[name].shape)}, got {tuple(tensor.shape)}"
                )
        with torch.no_grad():
            for name, tensor in source.items():
                target[name].copy_(tensor)


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def _some(names: list[str]) -> str:
    return "nothing" if not names else f"{names[0]} ({len(names)} in all)"
