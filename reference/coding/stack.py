"""A stack of bits, and normal distributions over integers."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
from scipy.special import log_ndtr

MASS = 1 << 64
"""Total of the frequencies of a normal distribution, but for the two of each integer."""

REACH = 1 << 40
"""Distance from the mean up to which all integers can be coded."""


class CodingError(ValueError):
    """Numbers that cannot be coded: not finite, or outside the range of a distribution."""


class Stack:
    """A stack of bits: one integer, coded by asymmetric numeral systems.

    A symbol of frequency f out of a total T, with symbols of frequency F before it, is pushed as

        state -> (state // f) T + F + state % f,

    which multiplies the state by about T / f: it adds log2(T / f) bits. Popping is the inverse.

    Args:
        state: initial bits, as a positive integer.

    Source: Duda 2013; Townsend, Bird and Barber 2019 for its use with bits back.
    """

    def __init__(self, state: int = 1) -> None:
        if state < 1:
            raise ValueError(f"Stack needs a positive state, got {state}")
        self.state = state

    @property
    def bits(self) -> float:
        """Number of bits on the stack."""
        return math.log2(self.state)

    def push(self, start: int, frequency: int, total: int) -> None:
        """Push the symbol that owns start ... start + frequency - 1 out of total."""
        quotient, rest = divmod(self.state, frequency)
        self.state = quotient * total + start + rest

    def peek(self, total: int) -> int:
        """Return a number below total, which lies in the range of the symbol on top.

        Raises:
            CodingError: fewer bits on the stack than a symbol may need.
        """
        if self.state < total:
            raise CodingError(f"the stack must have log2({total}) bits, got {self.bits:.1f}")
        return self.state % total

    def pop(self, start: int, frequency: int, total: int) -> None:
        """Remove the symbol of this range, which `peek` has shown to be on top."""
        quotient, rest = divmod(self.state, total)
        self.state = quotient * frequency + rest - start


@dataclass(frozen=True)
class Normal:
    """A normal distribution over integers: P(k) is its mass in [k - 1/2, k + 1/2].

    Attributes:
        mean: in bins.
        std: in bins.
        low: smallest integer; the mass outside low ... high is left out.
        high: largest integer.

    Numerics: each integer has at least the frequency 1, so that all can be coded: 2 are added to
    the difference of a CDF that may have been rounded down by 1. Frequencies are differences of
    one function, so they add up to the total.
    """

    mean: float
    std: float
    low: int
    high: int

    @classmethod
    def of(cls, mean: float, std: float, limit: int = -1) -> Normal:
        """Return the distribution over 0 ... limit; without limit, over all that may occur.

        Raises:
            CodingError: a mean or standard deviation that is not finite or too large.
        """
        if not (abs(mean) < 2.0**52 and 0.0 < std < 2.0**40):
            raise CodingError(f"mean and std must be finite and not too large, got {mean}, {std}")
        if limit >= 0:
            return cls(mean, std, 0, limit)
        return cls(mean, std, round(mean) - REACH, round(mean) + REACH)

    @property
    def total(self) -> int:
        """Sum of all frequencies."""
        return self.start(self.high + 1)

    def start(self, k: int) -> int:
        """Return the sum of the frequencies of the integers before k."""
        return math.floor(MASS * self._share(k)) + 2 * (k - self.low)

    def _share(self, k: int) -> float:
        """Return the part of the mass that the integers before k have.

        Computed from the end that is farther from the mean, where masses are small: there ndtr is
        precise, and its logarithm cannot underflow.
        """
        sign, small, ratio = self._tail
        small_here = float(log_ndtr(sign * (k - 0.5 - self.mean) / self.std))
        share = (math.exp(small_here - small) - ratio) / (1.0 - ratio)
        return min(1.0, max(0.0, share if sign > 0 else 1.0 - share))

    @functools.cached_property
    def _tail(self) -> tuple[int, float, float]:
        """Side of the mean, log of the mass up to the far end, and the other end's part of it."""
        ends = [(end - 0.5 - self.mean) / self.std for end in (self.low, self.high + 1)]
        sign = 1 if -ends[0] > ends[1] else -1
        near, far = (float(log_ndtr(sign * end)) for end in ends[::sign])
        return sign, far, math.exp(near - far)

    def push(self, stack: Stack, k: int) -> None:
        """Push an integer.

        Raises:
            CodingError: an integer outside low ... high.
        """
        if not self.low <= k <= self.high:
            raise CodingError(f"an integer must be in {self.low} ... {self.high}, got {k}")
        start = self.start(k)
        stack.push(start, self.start(k + 1) - start, self.total)

    def pop(self, stack: Stack) -> int:
        """Pop the k with start(k) <= peek < start(k + 1), found by bisection."""
        total = self.total
        target = stack.peek(total)
        k, beyond, reach = self.low, self.high + 1, 8 * math.ceil(self.std)
        for end in (round(self.mean) - reach, round(self.mean) + reach):  # it is mostly between
            if k < end < beyond:
                k, beyond = (end, beyond) if self.start(end) <= target else (k, end)
        while beyond - k > 1:
            middle = (k + beyond) // 2
            k, beyond = (middle, beyond) if self.start(middle) <= target else (k, middle)
        start = self.start(k)
        stack.pop(start, self.start(k + 1) - start, total)
        return k


def normals(mean: np.ndarray, std: np.ndarray, limits: np.ndarray | None = None) -> list[Normal]:
    """Return a distribution for each number, over 0 ... limit where the limit is not negative."""
    if limits is None:
        limits = np.full(mean.shape, -1)
    arrays = (a.ravel() for a in np.broadcast_arrays(mean, std, limits))
    return [Normal.of(float(m), float(s), int(limit)) for m, s, limit in zip(*arrays, strict=True)]


def push_all(stack: Stack, numbers: np.ndarray, distributions: list[Normal]) -> None:
    """Push the numbers, the last one first, so that they are popped in order."""
    for k, distribution in reversed(list(zip(numbers.ravel(), distributions, strict=True))):
        distribution.push(stack, int(k))


def pop_all(stack: Stack, distributions: list[Normal], shape: tuple[int, ...]) -> np.ndarray:
    """Pop one number for each distribution."""
    return np.array([d.pop(stack) for d in distributions], dtype=np.int64).reshape(shape)
