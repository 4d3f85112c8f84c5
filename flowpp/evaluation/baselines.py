"""Baseline code lengths: uniform, and independent per-pixel histograms."""

from __future__ import annotations

import math

import numpy as np

from flowpp.data import ImageSet


def uniform_code(images: ImageSet) -> float:
    """Return log2(levels): bits per dimension if all levels are equally likely."""
    return math.log2(images.levels)


def histogram_code(images: ImageSet) -> float:
    """Return the mean of -log2 p_d(x_d) on the test images, p_d(v) = (n_d(v) + 1) / (N + levels).

    Pixels and channels d are independent, each with a histogram: n_d(v) is the count of value v
    among the N training images. The added 1 gives unseen values a positive probability.
    """
    train = images.train.reshape(len(images.train), -1).astype(np.int64)
    test = images.test.reshape(len(images.test), -1).astype(np.int64)
    dims = np.arange(train.shape[1])
    cells = train + images.levels * dims  # one bin for each pair of dimension and value
    counts = np.bincount(cells.ravel(), minlength=images.levels * len(dims)).reshape(len(dims), -1)
    probabilities = (counts + 1) / (len(train) + images.levels)
    return float(-np.log2(probabilities[dims, test]).mean())
