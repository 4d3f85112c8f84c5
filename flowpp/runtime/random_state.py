"""States of the process's random number generators: torch's, NumPy's and Python's."""

from __future__ import annotations

import operator
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor


def seed_all(seed: int, rank: int = 0) -> None:
    """Seed torch, NumPy and Python; torch's seed, used for dropout, differs between ranks."""
    torch.manual_seed(seed + rank)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def seeded_generator(seed: int | None) -> torch.Generator:
    """Return a new CPU generator, independent of the process's random state.

    Args:
        seed: any integer, NumPy's included; None draws one from torch's global generator.

    Raises:
        TypeError: a seed of another type.
        ValueError: a seed of more than 64 bits.
    """
    if seed is None:
        seed = int(torch.randint(2**62, ()))
    try:
        number = operator.index(seed)
    except TypeError:
        raise TypeError(f"seed must be an integer or None, got {seed!r}") from None
    if not -(2**63) <= number < 2**64:
        raise ValueError(f"seed must be in -2^63 ... 2^64 - 1, got {number}")
    return torch.Generator().manual_seed(number)


def torch_state(device: torch.device) -> dict[str, Tensor]:
    """Return torch's random states, used for dropout: that of the CPU, and that of a GPU."""
    states = {"torch": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def set_torch_state(states: Mapping[str, Tensor], device: torch.device) -> None:
    """Restore what `torch_state` returned."""
    torch.set_rng_state(states["torch"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)


def python_state() -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return NumPy's and Python's random states: words as tensors, the rest as plain values."""
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


def set_python_state(tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
    """Restore what `python_state` returned."""
    version, gauss = values["python"]
    random.setstate((version, tuple(tensors["python"].tolist()), gauss))
    keys = tensors["numpy"].numpy().astype(np.uint32)
    np.random.set_state(("MT19937", keys, *values["numpy"]))
