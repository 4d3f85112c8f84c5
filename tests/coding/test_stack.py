"""A stack of bits refuses distributions that there are not."""

from __future__ import annotations

import numpy as np
import pytest

from flowpp.coding import CodingError, Stack

NUMBERS = np.array([0, 1, -1])
FINE = np.ones(3)


def with_first(value: float) -> np.ndarray:
    return np.array([value, 1.0, 1.0])


@pytest.mark.parametrize(
    ("means", "stds"),
    [(with_first(value), FINE) for value in (np.nan, np.inf, -np.inf)]
    + [(FINE, with_first(value)) for value in (np.nan, np.inf, 0.0, -1.0)],
)
def test_normal_distributions(means: np.ndarray, stds: np.ndarray) -> None:
    stack = Stack(np.arange(1, 50, dtype=np.uint32))
    before = stack.words
    with pytest.raises(CodingError, match="must be finite"):
        stack.push_gaussian(NUMBERS, -10, 10, means, stds)
    with pytest.raises(CodingError, match="must be finite"):
        stack.pop_gaussian(-10, 10, means, stds)
    np.testing.assert_array_equal(stack.words, before)


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0, -1.0])
def test_laplace_distributions(value: float) -> None:
    stack = Stack(np.arange(1, 50, dtype=np.uint32))
    with pytest.raises(CodingError, match="must be finite"):
        stack.push_laplace(NUMBERS, -10, 10, with_first(value))
    with pytest.raises(CodingError, match="must be finite"):
        stack.pop_laplace(-10, 10, with_first(value))
