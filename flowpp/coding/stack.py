"""A stack of bits: asymmetric numeral systems, by the library constriction."""

from __future__ import annotations

from typing import Any

import numpy as np

RESERVE = 4
"""Number of words of 32 bits that must be left after popping: with fewer, ANS is not exact."""

PIECE = 16
"""Largest number of bits of a uniform number; constriction's probabilities have 24 bits."""


class CodingError(ValueError):
    """Numbers that cannot be coded, or bits that were not written by the same coder."""


class TooFewBitsError(CodingError):
    """Fewer bits on the stack than are to be popped."""


def require_constriction() -> Any:
    """Return the module `constriction.stream`.

    Raises:
        ModuleNotFoundError: constriction is not installed; the message says how to install it.
    """
    try:
        import constriction
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "compression needs constriction, which is not installed: "
            "pip install 'flowpp[compress]'"
        ) from error
    return constriction.stream


class Stack:
    """A stack of bits, onto which integers are pushed with their distributions.

    Args:
        words: bits of another stack's `words`, or none.

    Raises:
        ModuleNotFoundError: constriction is not installed.
    """

    reserve = RESERVE
    """Fewest words that popping may leave; 0 for popping no more than was pushed."""

    def __init__(self, words: np.ndarray | None = None) -> None:
        stream = require_constriction()
        self._gaussian = stream.model.QuantizedGaussian
        self._laplace = stream.model.QuantizedLaplace
        self._uniform = stream.model.Uniform()
        self._categorical = stream.model.Categorical(perfect=False)
        given = np.empty(0, np.uint32) if words is None else np.asarray(words, dtype=np.uint32)
        if len(given) and given[-1] == 0:
            raise CodingError("the last word of a stack must not be 0")
        self._coder = stream.stack.AnsCoder(given)

    @property
    def words(self) -> np.ndarray:
        """All bits, uint32."""
        return self._coder.get_compressed()

    @property
    def bits(self) -> int:
        """Number of bits."""
        return self._coder.num_valid_bits()

    def push_uniform(self, numbers: np.ndarray, sizes: np.ndarray) -> None:
        """Push integers 0 ... size - 1, of sizes 1 ... 2^16; those of size 1 have no bits."""
        real = sizes > 1
        if real.any():
            self._coder.encode_reverse(_int32(numbers[real]), self._uniform, _int32(sizes[real]))

    def pop_uniform(self, sizes: np.ndarray) -> np.ndarray:
        """Pop integers 0 ... size - 1, int64."""
        numbers, real = np.zeros(len(sizes), np.int64), sizes > 1
        if real.any():
            numbers[real] = self._coder.decode(self._uniform, _int32(sizes[real]))
            self._check()
        return numbers

    def push_gaussian(
        self, numbers: np.ndarray, low: int, high: int, means: np.ndarray, stds: np.ndarray
    ) -> None:
        """Push integers low ... high of normal distributions."""
        model = self._gaussian(low, high)
        self._coder.encode_reverse(_int32(numbers), model, *_checked(means, stds))

    def pop_gaussian(self, low: int, high: int, means: np.ndarray, stds: np.ndarray) -> np.ndarray:
        """Pop integers low ... high of normal distributions, int64."""
        model = self._gaussian(low, high)
        numbers = self._coder.decode(model, *_checked(means, stds))
        self._check()
        return np.asarray(numbers, np.int64)

    def push_laplace(self, numbers: np.ndarray, low: int, high: int, scales: np.ndarray) -> None:
        """Push integers low ... high of Laplace distributions with mean 0."""
        model = self._laplace(low, high)
        self._coder.encode_reverse(
            _int32(numbers), model, *_checked(np.zeros(len(scales)), scales)
        )

    def pop_laplace(self, low: int, high: int, scales: np.ndarray) -> np.ndarray:
        """Pop integers low ... high of Laplace distributions with mean 0, int64."""
        model = self._laplace(low, high)
        numbers = self._coder.decode(model, *_checked(np.zeros(len(scales)), scales))
        self._check()
        return np.asarray(numbers, np.int64)

    def push_categorical(self, numbers: np.ndarray, probabilities: np.ndarray) -> None:
        """Push integers below M of distributions (N, M)."""
        self._coder.encode_reverse(_int32(numbers), self._categorical, _float64(probabilities))

    def pop_categorical(self, probabilities: np.ndarray) -> np.ndarray:
        """Pop integers below M of distributions (N, M), int64."""
        numbers = self._coder.decode(self._categorical, _float64(probabilities))
        self._check()
        return np.asarray(numbers, np.int64)

    def copy(self) -> Stack:
        """Return a stack of the same bits."""
        other = object.__new__(Stack)
        other.__dict__ |= vars(self)
        other._coder = self._coder.clone()
        return other

    def _check(self) -> None:
        if self._coder.num_words() < self.reserve:
            raise TooFewBitsError("the stack must have more bits, got an empty one")


def _checked(means: np.ndarray, scales: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return means and scales as constriction takes them.

    It ends in a panic, which is no Exception, for some others, and takes NaN as a mean.

    Raises:
        CodingError: a number that is not finite, or a scale that is not positive.
    """
    means, scales = _float64(means), _float64(scales)
    if not (np.isfinite(means).all() and np.isfinite(scales).all() and (scales > 0).all()):
        raise CodingError("means and scales must be finite, and scales positive, got others")
    return means, scales


def _int32(numbers: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(numbers, dtype=np.int32)


def _float64(numbers: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(numbers, dtype=np.float64)
