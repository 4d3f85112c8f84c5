"""A group of processes that train one model together.

`torchrun` starts the processes and gives each its rank in environment variables; without these
there is one process, and every collective operation here is the identity.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, distributed, nn

T = TypeVar("T")
TIMEOUT = timedelta(hours=2)
"""Longest wait for another process: rank 0 writes and draws samples while the others wait."""


@dataclass(frozen=True)
class ProcessGroup:
    """This process's rank, and collective operations over all processes."""

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files and prints."""
        return self.rank == 0

    def rows(self, count: int) -> slice:
        """Return this process's part of `count` rows; `size` must divide `count`."""
        share = count // self.size
        return slice(self.rank * share, (self.rank + 1) * share)

    def mean(self, values: list[float]) -> list[float]:
        """Average each value over the processes; the result is the same in all of them."""
        if self.size == 1:
            return values
        tensor = torch.tensor(values, dtype=torch.float64)
        distributed.all_reduce(tensor)
        return (tensor / self.size).tolist()

    def average(self, tensor: Tensor) -> Tensor:
        """Average a tensor over the processes, in place; a CUDA device is not waited for."""
        if self.size == 1:
            return tensor
        distributed.all_reduce(tensor)
        return tensor.div_(self.size)

    def gather(self, tensor: Tensor) -> Tensor:
        """Stack the processes' tensors, all of one shape, along a new first axis, by rank."""
        own = tensor.cpu().contiguous()
        if self.size == 1:
            return own[None]
        parts = [torch.empty_like(own) for _ in range(self.size)]
        distributed.all_gather(parts, own)
        return torch.stack(parts)

    def gather_array(self, array: np.ndarray) -> np.ndarray:
        """Stack the processes' NumPy arrays, as `gather` does."""
        return self.gather(torch.from_numpy(array)).numpy()

    def broadcast(self, model: nn.Module) -> None:
        """Overwrite the model's tensors with those of rank 0."""
        if self.size > 1:
            for tensor in model.state_dict().values():
                distributed.broadcast(tensor, src=0)

    def broadcast_object(self, value: T) -> T:
        """Return rank 0's value in every process; it is pickled."""
        if self.size == 1:
            return value
        box = [value]
        distributed.broadcast_object_list(box, src=0)
        return box[0]

    def broadcast_tensors(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return rank 0's tensors, on the CPU, in every process."""
        if self.size == 1:
            return dict(tensors)
        layout = self.broadcast_object({n: (t.shape, t.dtype) for n, t in tensors.items()})
        received = {}
        for name, (shape, dtype) in layout.items():
            own = tensors[name].cpu() if self.is_main else torch.empty(shape, dtype=dtype)
            received[name] = own.contiguous()
            if own.numel():  # as bytes, because Gloo does not know all dtypes
                distributed.broadcast(received[name].reshape(-1).view(torch.uint8), src=0)
        return received

    def from_main(self, compute: Callable[[], T]) -> T:
        """Return, or raise, in every process what `compute` returns or raises in rank 0.

        The others do not call it: on other machines they may lack the files that it reads.
        """
        if self.size == 1:
            return compute()
        value, error = None, None
        if self.is_main:
            try:
                value = compute()
            except Exception as caught:
                error = caught
        value, error = self.broadcast_object((value, error))
        if error is not None:
            raise error
        return value  # type: ignore[return-value]


SINGLE_PROCESS = ProcessGroup()


def started_by_torchrun() -> bool:
    """Return whether the environment describes several processes."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def is_first_process() -> bool:
    """Return whether this is rank 0, from the environment: before the processes have joined."""
    return int(os.environ.get("RANK", "0")) == 0


def local_rank() -> int:
    """Return this process's number on its machine, from the environment; 0 without torchrun."""
    return int(os.environ.get("LOCAL_RANK", "0"))


@contextmanager
def process_group(device: str) -> Iterator[ProcessGroup]:
    """Join the processes that torchrun started; yield `SINGLE_PROCESS` if there is one.

    CPU tensors are sent with Gloo, GPU tensors with NCCL.

    Args:
        device: Device that the processes compute on; with "cuda" each takes a GPU of its own.

    Raises:
        ValueError: More processes than GPUs on this machine, or one GPU for several processes.
    """
    if not started_by_torchrun():
        yield SINGLE_PROCESS
        return
    if device.split(":")[0] == "cuda":
        # Named, the GPU is connected to the others at once, and torch need not guess it.
        gpu = _take_gpu(device)
        distributed.init_process_group("cpu:gloo,cuda:nccl", timeout=TIMEOUT, device_id=gpu)
    else:
        distributed.init_process_group("gloo", timeout=TIMEOUT)
    try:
        yield ProcessGroup(distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()


def _take_gpu(device: str) -> torch.device:
    """Make the GPU with this process's local rank the current one, and return it."""
    processes, gpus = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), torch.cuda.device_count()
    if processes > 1 and device != "cuda":
        raise ValueError(f"device must be cuda for several processes, got {device}")
    if processes > gpus:
        raise ValueError(
            f"torchrun's processes on a machine must be at most its {gpus} GPUs, got {processes}"
        )
    gpu = torch.device("cuda", local_rank()) if device == "cuda" else torch.device(device)
    torch.cuda.set_device(gpu)
    return gpu
