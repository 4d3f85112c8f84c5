"""Devices: the process's own GPU, and moving a model."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

from flowpp.runtime.distributed import local_rank, started_by_torchrun

M = TypeVar("M", bound=nn.Module)


def choose_device(device: str) -> str:
    """Return `device`, with `auto` resolved to a GPU if there is one, and to the CPU otherwise."""
    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"


def local_device(device: str) -> str:
    """Return the chosen device, with `cuda` resolved to this process's GPU under torchrun."""
    device = choose_device(device)
    if device == "cuda" and started_by_torchrun():
        return f"cuda:{local_rank()}"
    return device


def usable_device(device: str) -> torch.device:
    """Return the device of this name, which may be `auto`.

    Raises:
        ValueError: unknown or unavailable device.
    """
    return next(to_device(nn.Linear(1, 1), device).parameters()).device


def to_device(model: M, device: str) -> M:
    """Move the model to `device`, which may be `auto`.

    Raises:
        ValueError: unknown or unavailable device.
    """
    device = str(device)  # of a torch.device too
    if device.split(":")[0] == "meta":
        raise ValueError(f"device {device!r} is not usable: its tensors hold no numbers")
    if device.split(":")[0] == "mps":
        raise ValueError(
            f"device {device!r} is not usable: Apple's GPUs have no float64, which the "
            "determinants need; use cpu"
        )
    try:
        return model.to(choose_device(device))
    except (RuntimeError, AssertionError) as error:  # torch's errors: a bad name, no CUDA
        raise ValueError(f"device {device!r} is not usable: {error}") from error


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor from the CPU to `device`, or return one that is there.

    A CUDA device is not waited for.
    """
    if device.type != "cuda" or tensor.device == device:
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
