"""Normal distributions over integers, pushed and popped in a few calls for all of them.

constriction gives each symbol of a distribution at least 2^-24, so a distribution over all
integers that may occur would spend most of its mass on improbable ones. Each number is therefore
coded in three parts:

- its cell of 2^shift integers, so wide that the standard deviation is at most 32 cells, within
  8 standard deviations (rounded up) of the mean;
- for cells beyond, at an end of that window, the number of the cell in 48 bits;
- its place in the cell, uniformly: 2e-4 bits are lost where there are cells at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from .stack import PIECE, CodingError, Stack

OCTAVES = 5
"""A standard deviation has at most 2^OCTAVES cells."""
STDS = 8
"""Half of a window, in standard deviations."""
PIECES = 3
"""Pieces of 16 bits of a cell's number outside its window."""

Tails = Literal["cut", "coded"]
"""Whether numbers outside the windows never occur, as where they were popped, or are coded."""


@dataclass(frozen=True, eq=False)
class Normals:
    """Normal distributions over integers: P(k) is the mass in [k - 1/2, k + 1/2].

    Args:
        mean: float64 (N,), in bins.
        std: float64 (N,), in bins.
        tails: "cut" for numbers that are only pushed after they were popped here.
        limit: number of integers, from 0, a power of 2; None for all.

    Raises:
        CodingError: a mean or standard deviation that is not finite or too large.
    """

    mean: np.ndarray
    std: np.ndarray
    tails: Tails
    limit: int | None = None

    def __post_init__(self) -> None:
        usable = (np.abs(self.mean) < 2.0**46) & (self.std > 0.0) & (self.std < 2.0**40)
        if not usable.all():
            mean, std = self.mean[~usable][0], self.std[~usable][0]
            raise CodingError(f"mean and std must be finite and not too large, got {mean}, {std}")

    def push(self, stack: Stack, numbers: np.ndarray) -> None:
        """Push integers, int64 (N,).

        Raises:
            CodingError: a number outside its window whose tails are cut, or beyond 2^47.
        """
        windows = self._windows()
        shift = windows.shift
        cells = numbers >> shift
        offsets = np.clip(cells - windows.centre, -windows.reach, windows.reach)
        outside = self._outside(windows, offsets)
        if (cells != windows.centre + offsets)[~outside].any():
            raise CodingError("a number must be in the window that it was popped from")
        for piece in reversed(range(0, int(shift.max(initial=0)), PIECE)):
            bits = np.clip(shift - piece, 0, PIECE)
            stack.push_uniform((numbers >> piece) & ((1 << bits) - 1), 1 << bits)
        _push_far(stack, cells[outside])
        for octave in reversed(range(OCTAVES + 1)):
            own = windows.octave == octave
            if own.any():
                reach = STDS << octave
                stack.push_gaussian(
                    offsets[own], -reach, reach, windows.mean[own], windows.std[own]
                )

    def pop(self, stack: Stack) -> np.ndarray:
        """Pop integers, int64 (N,).

        Raises:
            TooFewBitsError: the stack is empty.
        """
        windows = self._windows()
        offsets = np.zeros(len(self.mean), np.int64)
        for octave in range(OCTAVES + 1):
            own = windows.octave == octave
            if own.any():
                reach = STDS << octave
                offsets[own] = stack.pop_gaussian(
                    -reach, reach, windows.mean[own], windows.std[own]
                )
        cells, outside = windows.centre + offsets, self._outside(windows, offsets)
        cells[outside] = _pop_far(stack, int(outside.sum()))
        shift = windows.shift
        numbers = cells << shift
        for piece in range(0, int(shift.max(initial=0)), PIECE):
            bits = np.clip(shift - piece, 0, PIECE)
            numbers += stack.pop_uniform(1 << bits) << np.minimum(piece, shift)
        return numbers

    def _outside(self, windows: _Windows, offsets: np.ndarray) -> np.ndarray:
        if self.tails == "cut":
            return np.zeros(len(offsets), bool)
        return np.abs(offsets) == windows.reach

    def _windows(self) -> _Windows:
        std = self.std if self.limit is None else np.minimum(self.std, self.limit / (4 * STDS))
        mantissa, exponent = np.frexp(std)
        exponent = exponent.astype(np.int64) - (mantissa == 0.5)  # std <= 2^exponent
        shift = np.maximum(exponent - OCTAVES, 0)
        octave = np.clip(exponent, 0, OCTAVES)
        reach = STDS << octave
        cell = np.ldexp(1.0, shift)
        mean = (self.mean - (cell - 1) / 2) / cell
        centre = np.rint(mean).astype(np.int64)
        if self.limit is not None:
            # The ends of a window mean "beyond" where tails are coded: no integer lies on them.
            margin = int(self.tails == "coded")
            last = (self.limit >> shift) - 1
            centre = np.clip(centre, reach - margin, last - reach + margin)
        return _Windows(shift, octave, reach, centre, mean - centre, std / cell)


@dataclass(frozen=True, eq=False)
class _Windows:
    """Windows of cells: shift, octave of the std, half size, central cell; mean from it, std."""

    shift: np.ndarray
    octave: np.ndarray
    reach: np.ndarray
    centre: np.ndarray
    mean: np.ndarray
    std: np.ndarray


def _push_far(stack: Stack, cells: np.ndarray) -> None:
    if not len(cells):
        return
    half = 1 << (PIECE * PIECES - 1)
    if np.abs(cells).max() >= half:
        raise CodingError(f"numbers must be less than 2^47 bins, got {np.abs(cells).max()}")
    size = np.full(len(cells), 1 << PIECE)
    for piece in reversed(range(PIECES)):
        stack.push_uniform(((cells + half) >> (PIECE * piece)) & ((1 << PIECE) - 1), size)


def _pop_far(stack: Stack, count: int) -> np.ndarray:
    cells = np.full(count, -(1 << (PIECE * PIECES - 1)), np.int64)
    if count:
        size = np.full(count, 1 << PIECE)
        for piece in range(PIECES):
            cells += stack.pop_uniform(size) << (PIECE * piece)
    return cells
