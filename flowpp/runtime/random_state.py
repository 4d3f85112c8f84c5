"""The states of the process's random generators: torch's, NumPy's and Python's own."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor


def seed_all(seed: int, rank: int = 0) -> None:
    """Seed torch, NumPy and Python; ranks differ in torch's, which draws the dropout."""
    torch.manual_seed(seed + rank)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def seeded_generator(seed: int) -> torch.Generator:
    """A generator of its own, for what must not disturb the process's."""
    return torch.Generator().manual_seed(seed)


def torch_state(device: torch.device) -> dict[str, Tensor]:
    """States that dropout is drawn from: the CPU's, and the device's where that is another."""
    states = {"torch": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def set_torch_state(states: Mapping[str, Tensor], device: torch.device) -> None:
    """Inverse of `torch_state`."""
    torch.set_rng_state(states["torch"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)


def host_state() -> tuple[dict[str, Tensor], dict[str, Any]]:
    """NumPy's and Python's states: their words as tensors, the rest as plain values."""
    version, words, gauss = random.getstate()
    _, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    tensors = {
        "python": torch.tensor(words, dtype=torch.int64),
        "numpy": torch.from_numpy(np.asarray(keys).astype(np.int64)),
    }
    values = {
        "python": [version, gauss],
        "numpy": [int(position), int(has_gauss), float(cached)],
    }
    return tensors, values


def set_host_state(tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
    """Inverse of `host_state`."""
    version, gauss = values["python"]
    random.setstate((version, tuple(tensors["python"].tolist()), gauss))
    keys = tensors["numpy"].numpy().astype(np.uint32)
    np.random.set_state(("MT19937", keys, *values["numpy"]))
