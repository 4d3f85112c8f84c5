"""scikit-learn's digits: 1797 handwritten digits, 8x8 pixels, 17 grey levels."""

from __future__ import annotations

import numpy as np
from sklearn import datasets

from flowpp.config import DataConfig
from flowpp.data.image_set import ImageSet
from flowpp.data.own_labels import with_labels

TRAIN_COUNT = 1500
LEVELS = 17


def load(config: DataConfig) -> ImageSet:
    """Load the digits: the first 1500 for training, the last 297 for test.

    The order is the data set's own, which groups writers, so most test digits come from writers
    absent from the training set.
    """
    digits = datasets.load_digits()
    images = digits.images.astype(np.uint8)[:, None]
    origins = {
        "train": f"the first {TRAIN_COUNT} of scikit-learn's digits",
        "test": f"the last {len(images) - TRAIN_COUNT}, mostly by other writers",
    }
    found = ImageSet("digits", images[:TRAIN_COUNT], images[TRAIN_COUNT:], LEVELS, origins=origins)
    if config.labels is None:
        return found
    names = [str(label) for label in digits.target]
    return with_labels(found, config, {"train": names[:TRAIN_COUNT], "test": names[TRAIN_COUNT:]})
