"""Baseline code lengths: uniform, and independent pixels.

Independent pixels: pixel and channel d of an image has value v with probability

    p_d(v) = (n_d(v) + k q_c(v)) / (N + k),    q_c(v) = (s_c(v) + a) / (S + a levels),

where n_d(v) counts value v at d among the N training images, s_c(v) among the S values of the
channel c of d. A small k is one histogram for each position, an infinite k one for the channel.
The pseudo-counts a and k are those with the shortest code for the training images, each value
coded without its own count; the test images decide nothing. Test images with other values than
the training images may therefore cost more than a uniform code.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from flowpp.data import ImageSet
from flowpp.data.image_set import Part

CHUNK = 1024
"""Images whose histograms are counted at once, to bound the memory."""
DENSE = 1 << 24
"""Largest number of counters; above it, positions are counted one by one."""
PSEUDO_COUNTS = tuple(2.0**power for power in range(-6, 21))
"""Values tried for a and k; the largest make q uniform, and p equal to q."""


class IndependentPixels(NamedTuple):
    """A code of independent pixels."""

    bits_per_dim: float
    """Mean code length of the test images."""
    per_value: float
    """Pseudo-count a of each value in the channels' histograms."""
    per_position: float
    """Pseudo-count k of the channel's histogram in those of the positions."""


def uniform_code(images: ImageSet) -> float:
    """Return log2(levels): bits per dimension if all levels are equally likely."""
    return math.log2(images.levels)


def histogram_code(images: ImageSet, part: Part = "test") -> float:
    """Return the code length of independent pixels, see `independent_pixels`."""
    return independent_pixels(images, part).bits_per_dim


def independent_pixels(images: ImageSet, part: Part = "test") -> IndependentPixels:
    """Return the mean of -log2 p_d(x_d) on the images of a part, as defined above."""
    train, test = (_Counts.of(p, images.levels) for p in (images.train, images.part(part)))
    size = images.train[0].size // images.shape[0]
    shared = train.by_channel(size)
    # Leave one out: the counts without the value that is coded.
    a = min(PSEUDO_COUNTS, key=lambda a: _code(shared.number, shared.number - 1 + a,
                                               shared.total - 1 + a * images.levels))  # fmt: skip
    own = shared.number_of(train.channels(size), train.values) - 1
    prior = (own + a) / (shared.total - 1 + a * images.levels)
    k = min(PSEUDO_COUNTS, key=lambda k: _code(train.number, train.number - 1 + k * prior,
                                               train.total - 1 + k))  # fmt: skip
    prior = (shared.number_of(test.channels(size), test.values) + a) / (
        shared.total + a * images.levels
    )
    weights = train.number_of(test.positions, test.values) + k * prior
    return IndependentPixels(_code(test.number, weights, train.total + k), a, k)


class _Counts(NamedTuple):
    """Numbers of occurrences, at least 1, of pairs of a position and a value.

    Args:
        keys: position * levels + value, increasing.
        number: Occurrences of each.
        levels: Number of values.
        total: Occurrences of all values at one position.
    """

    keys: np.ndarray
    number: np.ndarray
    levels: int
    total: int

    @classmethod
    def of(cls, images: np.ndarray, levels: int) -> _Counts:
        """Count the values at each position of images (N, C, H, W)."""
        size = images[0].size
        counted = _dense(images, levels) if size * levels <= DENSE else _sparse(images, levels)
        return cls(*counted, levels, len(images))

    @property
    def positions(self) -> np.ndarray:
        return self.keys // self.levels

    @property
    def values(self) -> np.ndarray:
        return self.keys % self.levels

    def channels(self, size: int) -> np.ndarray:
        """Return the channel of each pair; a channel has `size` positions."""
        return self.positions // size

    def by_channel(self, size: int) -> _Counts:
        """Return the counts of pairs of a channel and a value."""
        keys, inverse = np.unique(self.channels(size) * self.levels + self.values,
                                  return_inverse=True)  # fmt: skip
        number = np.bincount(inverse.ravel(), self.number).astype(np.int64)
        return _Counts(keys, number, self.levels, self.total * size)

    def number_of(self, positions: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Return the occurrences of other pairs, 0 for those that do not occur."""
        wanted = positions * self.levels + values
        place = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
        return np.where(self.keys[place] == wanted, self.number[place], 0)


def _code(number: np.ndarray, weights: np.ndarray, total: float) -> float:
    """Return the mean code length in bits of values that occur `number` times."""
    bits = math.log2(total) - np.log2(weights)
    return float((number * bits).sum() / number.sum())


def _dense(images: np.ndarray, levels: int) -> tuple[np.ndarray, np.ndarray]:
    size = images[0].size
    counts = np.zeros(size * levels, np.int64)
    bins = levels * np.arange(size)  # one bin for each pair of position and value
    for begin in range(0, len(images), CHUNK):
        cells = images[begin : begin + CHUNK].reshape(-1, size) + bins
        counts += np.bincount(cells.ravel(), minlength=len(counts))
    keys = np.flatnonzero(counts)
    return keys, counts[keys]


def _sparse(images: np.ndarray, levels: int) -> tuple[np.ndarray, np.ndarray]:
    rows = images.reshape(len(images), -1)
    counted = [
        np.unique(rows[:, position], return_counts=True) for position in range(rows.shape[1])
    ]
    keys = [levels * position + values.astype(np.int64) for position, (values, _) in
            enumerate(counted)]  # fmt: skip
    return np.concatenate(keys), np.concatenate([number for _, number in counted])
