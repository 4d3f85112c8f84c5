"""Several processes training one model: who they are, and how they agree.

`torchrun` starts them and tells each its place in environment variables; without these there is
one process, and everything here is the identity.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, distributed, nn

T = TypeVar("T")
PATIENCE = timedelta(hours=2)
"""One process may write and draw samples alone for so long, while the others wait."""


@dataclass(frozen=True)
class Group:
    """This process among its like."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """The process that writes."""
        return self.rank == 0

    def rows(self, count: int) -> slice:
        """This process's part of `count` rows, which `size` divides."""
        share = count // self.size
        return slice(self.rank * share, (self.rank + 1) * share)

    def mean(self, values: list[float]) -> list[float]:
        """Means over the processes, the same numbers in each."""
        if self.size == 1:
            return values
        tensor = torch.tensor(values, dtype=torch.float64)
        distributed.all_reduce(tensor)
        return (tensor / self.size).tolist()

    def gather(self, tensor: Tensor) -> Tensor:
        """Tensors of one shape from all processes, stacked in the order of the ranks."""
        own = tensor.cpu().contiguous()
        if self.size == 1:
            return own[None]
        parts = [torch.empty_like(own) for _ in range(self.size)]
        distributed.all_gather(parts, own)
        return torch.stack(parts)

    def gather_array(self, array: np.ndarray) -> np.ndarray:
        """The same for NumPy."""
        return self.gather(torch.from_numpy(array)).numpy()

    def share(self, model: nn.Module) -> None:
        """Overwrite the model's tensors by those of the first process."""
        if self.size > 1:
            for tensor in model.state_dict().values():
                distributed.broadcast(tensor, src=0)

    def same(self, value: T) -> T:
        """The first process's value, in all of them."""
        if self.size == 1:
            return value
        box = [value]
        distributed.broadcast_object_list(box, src=0)
        return box[0]

    def wait(self) -> None:
        """Until all have come here."""
        if self.size > 1:
            distributed.barrier()


ALONE = Group()


def started_by_torchrun() -> bool:
    """Whether the environment speaks of several processes."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def local_device(device: str) -> str:
    """`cuda` becomes the card of this process's place on its machine."""
    if device == "cuda" and started_by_torchrun():
        return f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    return device


@contextmanager
def group() -> Iterator[Group]:
    """The processes that torchrun started, or this one alone.

    CPU tensors travel by gloo, a GPU's by NCCL.
    """
    if not started_by_torchrun():
        yield ALONE
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        distributed.init_process_group("cpu:gloo,cuda:nccl", timeout=PATIENCE)
    else:
        distributed.init_process_group("gloo", timeout=PATIENCE)
    try:
        yield Group(distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()
