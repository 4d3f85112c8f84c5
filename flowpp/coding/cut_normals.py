"""Normal distributions cut to 0 ... count - 1, whose means may lie far outside.

An integer is coded in two parts, its cell and its place in the cell, each with the probabilities
of all possible values.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from .stack import Stack


@dataclass(frozen=True, eq=False)
class CutNormals:
    """P(k) is the mass in [k, k + 1] of a normal distribution, over that in [0, count].

    Args:
        mean: float64 (N,), in bins.
        std: float64 (N,), in bins.
        count: number of integers, a power of 2.
    """

    mean: np.ndarray
    std: np.ndarray
    count: int

    def push(self, stack: Stack, numbers: np.ndarray) -> None:
        """Push integers, int64 (N,)."""
        cells, places = np.divmod(numbers, self._size)
        stack.push_categorical(places, self._in_cells(cells))
        stack.push_categorical(cells, self._of_cells())

    def pop(self, stack: Stack) -> np.ndarray:
        """Pop integers, int64 (N,)."""
        cells = stack.pop_categorical(self._of_cells())
        return cells * self._size + stack.pop_categorical(self._in_cells(cells))

    @property
    def _size(self) -> int:
        """Integers of a cell."""
        return 1 << (self.count.bit_length() // 2)

    def _of_cells(self) -> np.ndarray:
        return self._shares(np.arange(0, self.count + 1, self._size)[None])

    def _in_cells(self, cells: np.ndarray) -> np.ndarray:
        return self._shares(cells[:, None] * self._size + np.arange(self._size + 1))

    def _shares(self, edges: np.ndarray) -> np.ndarray:
        """Return the parts of the mass between edges, from the end farther from the mean.

        There masses are small, and their logarithms cannot underflow. Without mass: equal parts.
        """
        z = torch.from_numpy((edges - self.mean[:, None]) / self.std[:, None])
        flip = z[:, :1] + z[:, -1:] > 0
        mass = torch.special.log_ndtr(torch.where(flip, -z, z))
        mass = torch.exp(mass - mass.amax(1, keepdim=True))
        parts = (mass[:, 1:] - mass[:, :-1]).abs().numpy()
        total = parts.sum(axis=1, keepdims=True)
        equal = np.full_like(parts, 1.0 / parts.shape[1])
        return np.divide(parts, total, out=equal, where=total > 0)
