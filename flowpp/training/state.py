"""Training state: everything that the next step depends on, to and from a checkpoint."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.optim import Optimizer

from flowpp.config import Config
from flowpp.data import ImageSet
from flowpp.model import FlowPlusPlus
from flowpp.runs.checkpoint import Checkpoint, CheckpointError
from flowpp.runs.machine_facts import machine_facts
from flowpp.runs.open_model import model_facts
from flowpp.runtime import random_state
from flowpp.runtime.distributed import ProcessGroup
from flowpp.training.batches import ShuffledBatches
from flowpp.training.ema import EMA
from flowpp.training.optimizer_state import NamedState

UNUSABLE = (
    KeyError, IndexError, TypeError, AttributeError, ValueError, ArithmeticError, RuntimeError
)  # fmt: skip
"""Errors raised by a checkpoint whose facts or tensors are not those that `capture` writes."""

FIRST_OPTIMIZER = "flowpp.Adam"
"""Optimizer of checkpoints of version 0.1.0, which do not record it."""


class Stateful(Protocol):
    """Component whose state a checkpoint contains.

    Its state is a dictionary of tensors, dictionaries of tensors, and plain values.
    """

    def state_dict(self) -> Mapping[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


@dataclass(eq=False)
class TrainingState:
    """Everything that changes from step to step.

    Args:
        model: The model itself, not its wrapper for several processes.
        ema: Average of the model's weights.
        optimizer: Optimizer with one group of named parameters.
        batches: Order of the images, the same in every process.
        noise: Generator of this process's noise; with one process it is that of `batches`.
        device: Device of the model.
        step: Number of steps done.
        sequential_noise: Whether evaluations draw their noise as version 0.1.0 did, so that the
            numbers of its runs remain comparable.
        skipped: Number of steps skipped because loss or gradient were not finite.
        skipped_in_a_row: Number of the latest steps that were skipped.
        recent: Bits per dimension of the steps since the last log line.
        seconds: Training time of earlier processes of this run.
        start: Time at which this process began, by `time.perf_counter`.
    """

    model: FlowPlusPlus
    ema: EMA
    optimizer: Optimizer
    batches: ShuffledBatches
    noise: torch.Generator
    device: torch.device
    step: int = 0
    sequential_noise: bool = False
    skipped: int = 0
    skipped_in_a_row: int = 0
    recent: list[float] = field(default_factory=list)
    seconds: float = 0.0
    start: float = field(default_factory=time.perf_counter)

    def elapsed(self) -> float:
        """Return the training time in seconds, including earlier processes of the run."""
        return self.seconds + time.perf_counter() - self.start

    def generators(self) -> list[torch.Generator]:
        """Return the generators of the images' order and of the noise."""
        return [self.batches.generator, self.noise]

    def capture(self, config: Config, images: ImageSet, group: ProcessGroup) -> Checkpoint:
        """Return a checkpoint of the state.

        All processes must call it: each has a random state of its own for dropout.

        Args:
            config: Settings of the run.
            images: Data set.
            group: All processes.
        """
        tensors: dict[str, Tensor] = {}
        values: dict[str, Any] = {}
        for name, component in self._components().items():
            _pack(name, component.state_dict(), tensors, values)
        tensors |= self._random_tensors(group)
        return Checkpoint(
            self.step,
            self.model.state_dict(),
            self.ema.state_dict(),
            tensors,
            {
                **model_facts(config, images.shape, images.levels, self.model.context_spec),
                "data_sha256": images.sha256,
                **machine_facts(self.device, group.size, config.training.precision),
                "optimizer": NamedState(self.optimizer).kind,
                "sequential_noise": self.sequential_noise,
                **values,
                "skipped": self.skipped,
                "skipped_in_a_row": self.skipped_in_a_row,
                "recent": list(self.recent),
                "seconds": self.elapsed(),
                "random": random_state.python_state()[1],
            },
        )

    def restore(self, checkpoint: Checkpoint, group: ProcessGroup) -> None:
        """Restore the state that `capture` saved.

        Raises:
            CheckpointError: A checkpoint of another model or optimizer, or one without training
                state.
        """
        facts, tensors = checkpoint.facts, checkpoint.state
        written_with = facts.get("optimizer", FIRST_OPTIMIZER)
        training_with = NamedState(self.optimizer).kind
        if tensors and written_with != training_with:  # weights alone have no optimizer
            raise CheckpointError(
                f"the checkpoint of step {checkpoint.step} was written with {written_with}, "
                f"training uses {training_with}"
            )
        checkpoint.check_finite()
        try:
            checkpoint.restore(self.model, average=False)
            self.ema.load_state_dict(checkpoint.ema)
            for name, component in self._components().items():
                component.load_state_dict(_unpack(name, tensors, facts))
            self._restore_random(tensors, facts, group)
            self.step = checkpoint.step
            self.sequential_noise = bool(facts.get("sequential_noise", True))
            self.skipped = int(facts["skipped"])
            self.skipped_in_a_row = int(facts["skipped_in_a_row"])
            self.recent = [float(value) for value in facts["recent"]]
            self.seconds = float(facts["seconds"])
        except (CheckpointError, torch.OutOfMemoryError, torch.AcceleratorError):
            raise  # the last two say nothing about the checkpoint
        except UNUSABLE as error:
            reason = f"missing {error}" if isinstance(error, KeyError) else error
            raise CheckpointError(
                f"the checkpoint of step {checkpoint.step} has no usable training state: {reason}"
            ) from error

    def _components(self) -> dict[str, Stateful]:
        return {"optimizer": NamedState(self.optimizer), "batches": self.batches}

    def _random_tensors(self, group: ProcessGroup) -> dict[str, Tensor]:
        states = dict(random_state.python_state()[0])
        for name, tensor in random_state.torch_state(self.device).items():
            states[name] = group.gather(tensor)
        states["generator"] = self.batches.generator.get_state()
        if group.size > 1:
            states["noise"] = group.gather(self.noise.get_state())
        return {f"random/{name}": tensor for name, tensor in states.items()}

    def _restore_random(
        self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any], group: ProcessGroup
    ) -> None:
        self.batches.generator.set_state(tensors["random/generator"])
        python = {name: tensors[f"random/{name}"] for name in ("python", "numpy")}
        random_state.set_python_state(python, facts["random"])
        stacked = {
            name: tensors[f"random/{name}"]
            for name in ("torch", "cuda")
            if f"random/{name}" in tensors
        }
        # With another number of processes, dropout and noise continue from the seed instead.
        if group.size == len(stacked["torch"]):
            own = {name: states[group.rank].clone() for name, states in stacked.items()}
            random_state.set_torch_state(own, self.device)
            # In version 0.1.0 every process drew the noise of all from the other generator.
            if group.size > 1 and "random/noise" in tensors:
                self.noise.set_state(tensors["random/noise"][group.rank].clone())


def _pack(
    name: str, state: Mapping[str, Any], tensors: dict[str, Tensor], values: dict[str, Any]
) -> None:
    """Add a component's state: tensors as name/key or name/key/inner, values as name_key."""
    for key, value in state.items():
        if isinstance(value, Tensor):
            tensors[f"{name}/{key}"] = value
        elif isinstance(value, Mapping):
            tensors |= {f"{name}/{key}/{inner}": tensor for inner, tensor in value.items()}
        else:
            values[f"{name}_{key}"] = value


def _unpack(name: str, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state that `_pack` added under `name`."""
    state: dict[str, Any] = {
        key.removeprefix(f"{name}_"): value
        for key, value in values.items()
        if key.startswith(f"{name}_")
    }
    for path, tensor in tensors.items():
        if path.startswith(f"{name}/"):
            key, _, inner = path.removeprefix(f"{name}/").partition("/")
            if inner:
                state.setdefault(key, {})[inner] = tensor
            else:
                state[key] = tensor
    return state
