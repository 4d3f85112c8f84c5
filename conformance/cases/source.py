"""Sources of random numbers: a NumPy generator, or Hypothesis, which can shrink them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

import numpy as np

T = TypeVar("T")
TINY = 1e-3
"""Factor of the numbers of a tiny array."""


class Source(Protocol):
    """Random numbers, arrays and choices, which a search shrinks to the simplest."""

    def integer(self, low: int, high: int) -> int:
        """Return an integer between `low` and `high`, both included."""

    def array(self, shape: tuple[int, ...], low: float, high: float) -> np.ndarray:
        """Return numbers between `low` and `high`, the simplest of which is 0."""

    def extremes(self, shape: tuple[int, ...], largest: float) -> np.ndarray:
        """Return numbers of any size up to `largest`, including 0 and the ends."""

    def choice(self, of: Sequence[T]) -> T:
        """Return one of the options, the simplest of which is the first."""

    def order(self, count: int) -> np.ndarray:
        """Return a permutation of 0 ... count - 1."""


class NumpySource:
    """A source from a NumPy generator."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def integer(self, low: int, high: int) -> int:
        return int(self._rng.integers(low, high + 1))

    def array(self, shape: tuple[int, ...], low: float, high: float) -> np.ndarray:
        return self._rng.uniform(low, high, shape)

    def extremes(self, shape: tuple[int, ...], largest: float) -> np.ndarray:
        size = largest ** self._rng.uniform(-0.5, 1.0, shape)
        return size * self._rng.choice([-1.0, 1.0], shape)

    def choice(self, of: Sequence[T]) -> T:
        return of[self.integer(0, len(of) - 1)]

    def order(self, count: int) -> np.ndarray:
        return self._rng.permutation(count)


class VariedSource(NumpySource):
    """A NumPy source for a search: zeros, ends of the range, equal and tiny numbers among others.

    Numbers are float32 values, the same for both dtypes.
    """

    def array(self, shape: tuple[int, ...], low: float, high: float) -> np.ndarray:
        drawn = self._rng.uniform(low, high, shape)
        kind = self.choice(["any", "special", "tiny", "equal"])
        if kind == "special":
            ends = [min(max(0.0, low), high), low, high]
            drawn = np.where(self._rng.random(shape) < 0.5, self._rng.choice(ends, shape), drawn)
        elif kind == "tiny":
            drawn = np.clip(TINY * drawn, low, high)
        elif kind == "equal":
            drawn = np.full(shape, self._rng.uniform(low, high))
        return _as_float32(drawn)

    def extremes(self, shape: tuple[int, ...], largest: float) -> np.ndarray:
        special = self._rng.choice([0.0, 1.0, -1.0, largest, -largest], shape)
        near = self._rng.uniform(-3.0, 3.0, shape)
        far = self._rng.uniform(-largest, largest, shape)
        sizes = super().extremes(shape, largest)
        return _as_float32(np.choose(self._rng.integers(0, 4, shape), [special, near, far, sizes]))


class HypothesisSource:
    """A source from Hypothesis' `data()`. Numbers are float32 values, the same for both dtypes."""

    def __init__(self, data: Any) -> None:
        self._data = data

    def integer(self, low: int, high: int) -> int:
        from hypothesis import strategies

        return self._data.draw(strategies.integers(low, high))

    def array(self, shape: tuple[int, ...], low: float, high: float) -> np.ndarray:
        return self._array(shape, _floats(low, high))

    def extremes(self, shape: tuple[int, ...], largest: float) -> np.ndarray:
        from hypothesis import strategies

        ends = strategies.sampled_from([0.0, 1.0, -1.0, largest, -largest])
        return self._array(
            shape, strategies.one_of(_floats(-3.0, 3.0), ends, _floats(-largest, largest))
        )

    def choice(self, of: Sequence[T]) -> T:
        from hypothesis import strategies

        return self._data.draw(strategies.sampled_from(of))

    def order(self, count: int) -> np.ndarray:
        from hypothesis import strategies

        return np.array(self._data.draw(strategies.permutations(list(range(count)))))

    def _array(self, shape: tuple[int, ...], elements: Any) -> np.ndarray:
        from hypothesis import strategies
        from hypothesis.extra import numpy as arrays

        # Every number by itself: a filled array would hide errors that depend on the position.
        return self._data.draw(
            arrays.arrays(np.float64, shape, elements=elements, fill=strategies.nothing())
        )


def _as_float32(array: np.ndarray) -> np.ndarray:
    return np.asarray(array).astype(np.float32).astype(np.float64)


def _floats(low: float, high: float) -> Any:
    from hypothesis import strategies

    low, high = float(np.float32(low)), float(np.float32(high))
    return strategies.floats(low, high, width=32, allow_subnormal=False)
