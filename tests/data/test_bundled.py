"""The bundled data sets and the checks of ImageSet."""

from __future__ import annotations

import math

import numpy as np
import pytest

from flowpp import data
from flowpp.config import DataConfig
from flowpp.data import ImageSet, photos
from flowpp.evaluation import baselines


def test_digits():
    images = data.load(DataConfig(source="digits"))
    assert images.train.shape == (1500, 1, 8, 8) and images.test.shape == (297, 1, 8, 8)
    assert images.levels == 17 and images.train.max() == 16
    assert images.sha256.startswith("fc0bb6672dd424f2")


def test_photos():
    images = data.load(DataConfig(source="photos"))
    assert images.train.shape[1:] == images.test.shape[1:] == (3, 32, 32)
    assert len(images.train) == 5000 and len(images.test) == 104 and images.levels == 256


def test_photos_share_no_pixel_between_the_splits(monkeypatch):
    """Photographs whose pixel values encode their columns: no column is in both splits."""
    import sklearn.datasets

    columns = np.broadcast_to((np.arange(640) // 3).astype(np.uint8)[None, :, None], (64, 640, 3))

    class Photographs:
        images = [columns, columns]

    monkeypatch.setattr(sklearn.datasets, "load_sample_images", Photographs)
    images = photos.load(DataConfig(source="photos"))
    train, test = np.unique(images.train), np.unique(images.test)
    assert not set(train) & set(test)
    # A value stands for three columns, so the gap is known up to three.
    distance = np.abs(train[:, None].astype(int) - test[None].astype(int)).min()
    assert distance * 3 >= photos.GAP - 3


def test_a_path_for_bundled_data_is_refused():
    with pytest.raises(ValueError, match="data.path is not used by .*'digits'.* got 'somewhere'"):
        data.load(DataConfig(source="digits", path="somewhere"))


def test_unknown_source():
    with pytest.raises(ValueError, match="must be one of digits, .*, got 'mnist'"):
        data.load(DataConfig(source="mnist"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("train", "test", "error", "needed"),
    [
        (np.zeros((2, 1, 4, 4)), None, TypeError, "must be uint8, got float64"),
        (np.zeros((2, 4, 4), np.uint8), None, ValueError, r"\(N, C, H, W\).* got \(2, 4, 4\)"),
        (np.zeros((0, 1, 4, 4), np.uint8), None, ValueError, "non-empty"),
        (None, np.zeros((2, 1, 4, 8), np.uint8), ValueError, r"\(1, 4, 4\), got \(1, 4, 8\)"),
        (None, np.full((2, 1, 4, 4), 17, np.uint8), ValueError, r"in 0\.\.16, got 17"),
    ],
)
def test_image_sets_are_checked(train, test, error, needed):
    good = np.zeros((2, 1, 4, 4), np.uint8)
    with pytest.raises(error, match=needed):
        ImageSet("some", good if train is None else train, good if test is None else test, 17)


def test_the_hash_depends_on_the_images():
    a = np.arange(16, dtype=np.uint8).reshape(1, 1, 4, 4)
    assert ImageSet("s", a, a, 17).sha256 == ImageSet("s", a.copy(), a, 17).sha256
    assert ImageSet("s", a, a, 17).sha256 != ImageSet("s", a, a[..., ::-1], 17).sha256


def test_uniform_code():
    images = np.zeros((1, 1, 1, 2), np.uint8)
    assert baselines.uniform_code(ImageSet("some", images, images, 3)) == math.log2(3)
