"""scikit-learn's digits: 1797 handwritten digits, 8x8 pixels, 17 grey levels."""

from __future__ import annotations

import numpy as np

from flowpp.data.image_set import ImageSet

TRAIN_COUNT = 1500
LEVELS = 17


def load() -> ImageSet:
    """The first 1500 digits for training, the last 297 for test; nothing is downloaded.

    The order is the data set's own, which groups writers: most test digits were written by hands
    that the training set has not seen.
    """
    from sklearn.datasets import load_digits  # slow to import, and needed here alone

    images = load_digits().images.astype(np.uint8)[:, None]
    return ImageSet("digits", images[:TRAIN_COUNT], images[TRAIN_COUNT:], LEVELS)
