"""Batch sizes of evaluations and samples, by the memory of their device."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import torch

from flowpp.config import checks
from flowpp.runtime.machine import available_memory

CPU_MEGABYTES = 512.0
"""Memory for activations on a CPU, where larger batches are not faster."""
SHARE = 0.5
"""Largest share of the free memory that activations may take."""
LARGEST = 1024
"""Largest batch chosen by measurement: a GPU is busy with fewer images."""
PROBE = 8
"""Images in the batch that is measured."""


def activation_megabytes(device: torch.device) -> float:
    """Return the memory for activations: half of what is free, on a CPU 512 MB at most."""
    if device.type == "cuda":
        # Blocks that torch holds but does not use are free for it.
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return SHARE * (torch.cuda.mem_get_info(device)[0] + held) / 2**20
    free = available_memory()
    return CPU_MEGABYTES if free is None else min(CPU_MEGABYTES, SHARE * free / 2**20)


def measured_rows(run: Callable[[int], Any], device: torch.device, megabytes: float) -> int:
    """Return the number of rows, 1 to `LARGEST`, whose computation takes so much CUDA memory.

    It is `PROBE // 2` if the rows to be measured do not fit: `Batches` halves it if necessary.

    Args:
        run: Function that computes a number of rows.
        device: CUDA device that it computes on.
        megabytes: Memory for activations.
    """
    run(1)  # kernels and libraries allocate memory once
    one, several = _peak(run, 1, device), None
    with suppress(torch.OutOfMemoryError):
        several = _peak(run, PROBE, device)
    if several is None:
        torch.cuda.empty_cache()
        return PROBE // 2
    per_row = max((several - one) / (PROBE - 1), 1)
    return int(min(max(megabytes * 2**20 / per_row, 1), LARGEST))


def _peak(run: Callable[[int], Any], rows: int, device: torch.device) -> int:
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    run(rows)
    return torch.cuda.max_memory_allocated(device) - before


class Batches:
    """Computation in batches; out of memory, it continues with batches of half the size.

    Args:
        largest: Number of rows computed at once.
        warn: Function that shows a line to the user, the first time.
    """

    def __init__(self, largest: int, warn: Callable[[str], None]) -> None:
        checks.at_least("batch", largest, 1)
        self.largest = largest
        self._warn: Callable[[str], None] | None = warn

    def compute(self, function: Callable[..., np.ndarray], *rows: Any) -> np.ndarray:
        """Return the results of `function` for parts of the rows, in one array.

        Args:
            function: Function of as many sequences, which returns an array of a row for each of
                theirs.
            *rows: Sequences of one length, at least 1.

        Raises:
            torch.OutOfMemoryError: A single row does not fit.
        """
        results: list[np.ndarray] = []
        begin, count = 0, len(rows[0])
        while begin < count:
            end = min(begin + self.largest, count)
            result = self._attempt(function, [part[begin:end] for part in rows])
            if result is not None:
                results.append(result)
                begin = end
        return np.concatenate(results)

    def _attempt(self, function: Callable[..., np.ndarray], rows: list[Any]) -> np.ndarray | None:
        size = len(rows[0])
        try:
            return function(*rows)
        except torch.OutOfMemoryError:
            if size == 1:
                raise
        # Only here, without the error's frames, are the tensors of the attempt free.
        torch.cuda.empty_cache()
        self.largest = size // 2
        if self._warn is not None:
            self._warn(
                f"out of memory with {size} images at once: halving the batch until it fits"
            )
            self._warn = None
        return None
