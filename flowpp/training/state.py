"""The state of a run: all that the next step depends on, to and from a checkpoint."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from flowpp.model import FlowPlusPlus
from flowpp.runs.checkpoint import Checkpoint, CheckpointError, copy_into
from flowpp.runtime import random_state
from flowpp.runtime.distributed import ProcessGroup
from flowpp.training.batches import ShuffledBatches
from flowpp.training.ema import EMA
from flowpp.training.optimizer import Adam

MOMENTS = ("m", "v")
UNUSABLE = (
    KeyError, IndexError, TypeError, AttributeError, ValueError, ArithmeticError, RuntimeError
)  # fmt: skip
"""What facts and tensors of other kinds than `capture` writes lead to."""


@dataclass(eq=False)
class TrainingState:
    """What changes from step to step.

    Args:
        model: the model itself, not a wrapper of it.
        ema: its average.
        optimizer: its optimizer, with one group of parameters.
        batches: the order of the images; its generator draws the noise, too.
        device: where the model is.
        step: how many steps are done.
        skipped: how many of them were skipped, since something was not finite.
        skipped_in_a_row: how many at the end of them.
        recent: bits per dimension of the steps since the last line of the log.
        seconds: time spent by earlier processes of this run.
    """

    model: FlowPlusPlus
    ema: EMA
    optimizer: Adam
    batches: ShuffledBatches
    device: torch.device
    step: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0
    recent: list[float] = field(default_factory=list)
    seconds: float = 0.0
    began: float = field(default_factory=time.perf_counter)

    def elapsed(self) -> float:
        """Seconds of training, those before a resumption included."""
        return self.seconds + time.perf_counter() - self.began

    def capture(self, facts: dict[str, Any], group: ProcessGroup) -> Checkpoint:
        """Everything; a collective call, since every process has dropout of its own.

        Args:
            facts: about the run; they travel in the checkpoint as they are.
            group: the processes.
        """
        order = self.batches.state_dict()
        host, host_values = random_state.host_state()
        tensors = {f"random/{name}": tensor for name, tensor in host.items()}
        for name, tensor in random_state.torch_state(self.device).items():
            tensors[f"random/{name}"] = group.gather(tensor)
        tensors["random/generator"] = self.batches.generator.get_state()
        tensors["batches/drawn_from"] = order["drawn_from"]
        for kind, moments in self._moments().items():
            tensors |= {f"optimizer/{kind}/{name}": t for name, t in moments.items()}
        return Checkpoint(
            self.step,
            self.model.state_dict(),
            self.ema.state_dict(),
            tensors,
            {
                **facts,
                "batches_begin": order["begin"],
                "processes": group.size,
                "threads": torch.get_num_threads(),
                "optimizer_powers": list(self.optimizer.param_groups[0]["powers"]),
                "skipped": self.skipped,
                "skipped_in_a_row": self.skipped_in_a_row,
                "recent": list(self.recent),
                "seconds": self.elapsed(),
                "random": host_values,
            },
        )

    def restore(self, checkpoint: Checkpoint, group: ProcessGroup) -> None:
        """Return to the moment of `capture`.

        Raises:
            CheckpointError: a checkpoint of another model, or one that holds weights alone.
        """
        facts, tensors = checkpoint.facts, checkpoint.state
        try:
            checkpoint.restore(self.model, average=False)
            copy_into(self.ema.average, checkpoint.ema)
            self._set_moments(tensors)
            self.optimizer.param_groups[0]["powers"] = _numbers(facts["optimizer_powers"])
            self.batches.load_state_dict(
                {"begin": facts["batches_begin"], "drawn_from": tensors["batches/drawn_from"]}
            )
            self.batches.generator.set_state(tensors["random/generator"])
            host = {name: tensors[f"random/{name}"] for name in ("python", "numpy")}
            random_state.set_host_state(host, facts["random"])
            states = {
                name: tensors[f"random/{name}"]
                for name in ("torch", "cuda")
                if f"random/{name}" in tensors
            }
            if group.size == len(states["torch"]):
                # With more or fewer processes than before, dropout goes on from the seed instead.
                own = {name: stacked[group.rank].clone() for name, stacked in states.items()}
                random_state.set_torch_state(own, self.device)
            self.step = checkpoint.step
            self.skipped = int(facts["skipped"])
            self.skipped_in_a_row = int(facts["skipped_in_a_row"])
            self.recent = list(_numbers(facts["recent"]))
            self.seconds = float(facts["seconds"])
        except CheckpointError:
            raise
        except UNUSABLE as error:
            raise CheckpointError(
                f"the checkpoint of step {checkpoint.step} holds no state to go on from: {error}"
            ) from error

    def _moments(self) -> dict[str, dict[str, Tensor]]:
        """Adam's averages by parameter name; a parameter without a gradient so far has none."""
        state = self.optimizer.state
        return {
            kind: {name: state[p][kind] for name, p in self._parameters() if kind in state[p]}
            for kind in MOMENTS
        }

    def _set_moments(self, tensors: Any) -> None:
        for name, p in self._parameters():
            own = {k: tensors.get(f"optimizer/{k}/{name}") for k in MOMENTS}
            if all(tensor is None for tensor in own.values()):
                self.optimizer.state.pop(p, None)
                continue
            target = {k: torch.empty_like(p) for k in MOMENTS}
            copy_into(target, {k: tensor for k, tensor in own.items() if tensor is not None})
            self.optimizer.state[p] = target

    def _parameters(self) -> list[tuple[str, Tensor]]:
        return list(self.model.named_parameters())


def _numbers(values: Any) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
