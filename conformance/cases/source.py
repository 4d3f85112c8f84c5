"""Where random numbers come from: a NumPy generator, or Hypothesis, which can shrink them.

Whatever draws a specification from a `Source` can be drawn either way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

import numpy as np

T = TypeVar("T")


class Source(Protocol):
    """Numbers, arrays and choices, the simplest of which a search ends at."""

    def integer(self, low: int, high: int) -> int:
        """Both ends included."""

    def array(self, shape: tuple[int, ...], low: float, high: float) -> np.ndarray:
        """Numbers between, of which 0 is the simplest."""

    def extremes(self, shape: tuple[int, ...], largest: float) -> np.ndarray:
        """Numbers of any size up to `largest`, 0 and the ends among them."""

    def choice(self, of: Sequence[T]) -> T:
        """One of them; the first is the simplest."""

    def order(self, count: int) -> np.ndarray:
        """0 ... count - 1, in some order."""


class NumpySource:
    """From a generator."""

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


class HypothesisSource:
    """From Hypothesis' `data()`. Numbers are float32's, so that both dtypes are given the same."""

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

        # Every number by itself: a filled array would hide what depends on where a number lies.
        return self._data.draw(
            arrays.arrays(np.float64, shape, elements=elements, fill=strategies.nothing())
        )


def _floats(low: float, high: float) -> Any:
    from hypothesis import strategies

    low, high = float(np.float32(low)), float(np.float32(high))
    return strategies.floats(low, high, width=32, allow_subnormal=False)
