"""Devices: the process's own GPU, and moving a model."""

from __future__ import annotations

from typing import TypeVar

from torch import nn

from flowpp.runtime.distributed import local_rank, started_by_torchrun

M = TypeVar("M", bound=nn.Module)


def local_device(device: str) -> str:
    """Return `device`, with `cuda` resolved to this process's GPU under torchrun."""
    if device == "cuda" and started_by_torchrun():
        return f"cuda:{local_rank()}"
    return device


def to_device(model: M, device: str) -> M:
    """Move the model to `device`.

    Raises:
        ValueError: unknown or unavailable device.
    """
    if device.split(":")[0] == "meta":
        raise ValueError(f"device {device!r} is not usable: its tensors hold no numbers")
    try:
        return model.to(device)
    except (RuntimeError, AssertionError) as error:  # torch's errors: a bad name, no CUDA
        raise ValueError(f"device {device!r} is not usable: {error}") from error
