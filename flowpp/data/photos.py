"""Crops of scikit-learn's two sample photographs, 427 x 640 pixels in colour."""

from __future__ import annotations

import numpy as np

from flowpp.data.image_set import ImageSet

SIZE = 32
TEST_COLUMNS = (256, 384)
"""A vertical band through the middle of each photograph is held out ..."""
GAP = 32
"""... and so many columns on either side of it are not used at all: no crop touches both."""
TRAIN_STRIDE = 8
TEST_STRIDE = SIZE


def load() -> ImageSet:
    """Overlapping training crops left and right of a held-out band, test crops side by side in it.

    Both photographs appear in both splits, so the test measures how well local texture and colour
    are modelled, not how well unknown motifs are.
    """
    from sklearn.datasets import load_sample_images  # slow to import, and needed here alone

    train, test = [], []
    for photo in load_sample_images().images:
        begin, end = TEST_COLUMNS
        train += crops(photo[:, : begin - GAP], TRAIN_STRIDE)
        train += crops(photo[:, end + GAP :], TRAIN_STRIDE)
        test += crops(photo[:, begin:end], TEST_STRIDE)
    return ImageSet("photos", as_nchw(train), as_nchw(test), 256)


def crops(photo: np.ndarray, stride: int) -> list[np.ndarray]:
    """All SIZE x SIZE crops of a (H, W, 3) photograph whose corners are multiples of `stride`."""
    height, width, _ = photo.shape
    return [
        photo[top : top + SIZE, left : left + SIZE]
        for top in range(0, height - SIZE + 1, stride)
        for left in range(0, width - SIZE + 1, stride)
    ]


def as_nchw(images: list[np.ndarray]) -> np.ndarray:
    """A list of (H, W, C) images as one contiguous (N, C, H, W) array."""
    return np.ascontiguousarray(np.stack(images).transpose(0, 3, 1, 2))
