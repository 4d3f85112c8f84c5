"""Baseline code lengths: uniform, and independent per-pixel histograms."""

from __future__ import annotations

import math

import numpy as np

from flowpp.data import ImageSet

CHUNK = 1024
"""Images whose histograms are counted at once, to bound the memory."""


def uniform_code(images: ImageSet) -> float:
    """Return log2(levels): bits per dimension if all levels are equally likely."""
    return math.log2(images.levels)


def histogram_code(images: ImageSet) -> float:
    """Return the mean of -log2 p_d(x_d) on the test images, p_d(v) = (n_d(v) + 1) / (N + levels).

    Pixels and channels d are independent, each with a histogram: n_d(v) is the count of value v
    among the N training images. The added 1 gives unseen values a positive probability.
    """
    counts, tested = (
        _histograms(images.train, images.levels),
        _histograms(images.test, images.levels),
    )
    bits = -np.log2((counts + 1) / (len(images.train) + images.levels))
    return float((tested * bits).sum() / images.test.size)


def _histograms(images: np.ndarray, levels: int) -> np.ndarray:
    """Return the number of images with each value in each dimension: (D, levels)."""
    size = images[0].size
    counts = np.zeros(size * levels, np.int64)
    bins = levels * np.arange(size)  # one bin for each pair of dimension and value
    for begin in range(0, len(images), CHUNK):
        cells = images[begin : begin + CHUNK].reshape(-1, size) + bins
        counts += np.bincount(cells.ravel(), minlength=len(counts))
    return counts.reshape(size, levels)
