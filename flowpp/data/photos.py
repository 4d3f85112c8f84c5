"""Crops of scikit-learn's two sample photographs, 427 x 640 pixels in colour."""

from __future__ import annotations

import numpy as np
from sklearn import datasets

from flowpp.config import DataConfig
from flowpp.data.image_set import ImageSet

SIZE = 32
TEST_COLUMNS = (256, 384)
"""Vertical band in the middle of each photograph that is held out."""
GAP = 32
"""Unused columns on either side of the band, so that no training crop touches a test crop."""
TRAIN_STRIDE = 8
TEST_STRIDE = SIZE


def load(_: DataConfig) -> ImageSet:
    """Load overlapping training crops beside a held-out band, and adjacent test crops inside it.

    Both photographs appear in both splits: the test measures how well local texture and colour
    are modelled, not how well the model generalizes to new scenes.
    """
    train, test = [], []
    for photo in datasets.load_sample_images().images:
        start, stop = TEST_COLUMNS
        train += crops(photo[:, : start - GAP], TRAIN_STRIDE)
        train += crops(photo[:, stop + GAP :], TRAIN_STRIDE)
        test += crops(photo[:, start:stop], TEST_STRIDE)
    origins = {
        "train": "overlapping crops of scikit-learn's two photographs, beside a held-out band",
        "test": "adjacent crops of the band in the middle of each photograph",
    }
    return ImageSet("photos", as_nchw(train), as_nchw(test), 256, origins=origins)


def crops(photo: np.ndarray, stride: int) -> list[np.ndarray]:
    """Return the SIZE x SIZE crops of a (H, W, 3) photograph at multiples of `stride`."""
    height, width, _ = photo.shape
    return [
        photo[top : top + SIZE, left : left + SIZE]
        for top in range(0, height - SIZE + 1, stride)
        for left in range(0, width - SIZE + 1, stride)
    ]


def as_nchw(images: list[np.ndarray]) -> np.ndarray:
    """Stack (H, W, C) images into one contiguous (N, C, H, W) array."""
    return np.ascontiguousarray(np.stack(images).transpose(0, 3, 1, 2))
