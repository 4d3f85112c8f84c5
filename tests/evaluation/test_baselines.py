"""Code lengths of independent pixels against independently computed values."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
from sklearn.datasets import load_sample_images

from flowpp import data
from flowpp.config import DataConfig
from flowpp.data import ImageSet
from flowpp.data.photos import as_nchw, crops
from flowpp.evaluation import baselines
from flowpp.evaluation.baselines import PSEUDO_COUNTS, histogram_code, independent_pixels


def random_set(seed, train=12, test=5, levels=5, shape=(2, 2, 3), spread=2.0):
    rng = np.random.default_rng(seed)
    centre = rng.uniform(0, levels - 1, shape)

    def draw(count):
        values = centre + spread * rng.standard_normal((count, *shape))
        return values.round().clip(0, levels - 1).astype(np.uint8 if levels <= 256 else np.uint16)

    return ImageSet("random", draw(train), draw(test), levels)


def code(train, tested, levels, a, k, *, own):
    """The definition, value by value in 30 digits.

    With `own`, `tested` are the training images and the count of each value itself is left out.
    """
    mpmath.mp.dps = 30
    channels = train.shape[1]
    total, n, size = mpmath.mpf(0), len(train), train[0, 0].size
    for image in tested:
        for c in range(channels):
            for position in np.ndindex(image.shape[1:]):
                value = image[c][position]
                at_position = int((train[(slice(None), c, *position)] == value).sum()) - own
                in_channel = int((train[:, c] == value).sum()) - own
                q = (in_channel + mpmath.mpf(a)) / (n * size - own + mpmath.mpf(a) * levels)
                p = (at_position + mpmath.mpf(k) * q) / (n - own + mpmath.mpf(k))
                total -= mpmath.log(p, 2)
    return float(total / tested.size)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("dense", [True, False])
def test_the_code_is_its_definition(monkeypatch, seed, dense):
    monkeypatch.setattr(baselines, "DENSE", baselines.DENSE if dense else 0)
    monkeypatch.setattr(baselines, "CHUNK", 5)
    images = random_set(seed, spread=0.5 + seed)
    found = independent_pixels(images)
    expected = code(images.train, images.test, 5, found.per_value, found.per_position, own=0)
    assert found.bits_per_dim == pytest.approx(expected, rel=1e-12)
    assert histogram_code(images) == found.bits_per_dim


def test_one_image_of_three_channels_is_coded_as_defined():
    images = random_set(3, train=1, test=1, shape=(3, 1, 2))
    found = independent_pixels(images)
    expected = code(images.train, images.test, 5, found.per_value, found.per_position, own=0)
    assert found.bits_per_dim == pytest.approx(expected, rel=1e-12)


def test_pseudo_counts_minimize_the_training_images_code(monkeypatch):
    few = (0.25, 2.0, 64.0, 2.0**20)
    monkeypatch.setattr(baselines, "PSEUDO_COUNTS", few)
    chosen = set()
    for seed, spread in enumerate((0.2, 1.0, 30.0)):
        images = random_set(seed, spread=spread)
        found = independent_pixels(images)
        shared = {a: code(images.train, images.train, 5, a, 1e30, own=1) for a in few}
        assert found.per_value == min(shared, key=shared.get)
        mixed = {k: code(images.train, images.train, 5, found.per_value, k, own=1) for k in few}
        assert found.per_position == min(mixed, key=mixed.get)
        chosen.add(found.per_position)
    assert len(chosen) > 1  # the choice depends on the images


def test_it_is_never_worse_than_uniform_on_900_photographs():
    """One histogram for each position, with one added to every count, is: 8.01 bits."""
    photo = load_sample_images().images[0]
    pixels = as_nchw(crops(photo, 8))
    rng = np.random.default_rng(0)
    chosen = pixels[rng.permutation(len(pixels))[:900]]
    images = ImageSet("crops", chosen[:810], chosen[810:], 256)
    flat = [part.reshape(len(part), -1) for part in (images.train, images.test)]
    counts = np.stack([(flat[0] == v).sum(0) for v in range(256)], 1)
    former = -np.log2((counts[np.arange(3072), flat[1]] + 1) / (810 + 256)).mean()
    found = histogram_code(images)
    assert found < 7.9 and found < former - 0.1


@pytest.mark.parametrize("levels", [2, 17, 256, 65536])
def test_noise_costs_little_more_than_uniform(levels):
    rng = np.random.default_rng(0)
    dtype = np.uint8 if levels <= 256 else np.uint16
    train, test = (rng.integers(levels, size=(n, 1, 8, 8)).astype(dtype) for n in (40, 20))
    found = independent_pixels(ImageSet("noise", train, test, levels))
    assert found.bits_per_dim == pytest.approx(math.log2(levels), abs=0.05)


def test_constant_positions_have_histograms_of_their_own():
    rng = np.random.default_rng(0)
    pattern = rng.integers(256, size=(1, 1, 8, 8), dtype=np.uint8)
    images = ImageSet("constant", pattern.repeat(200, 0), pattern.repeat(20, 0), 256)
    found = independent_pixels(images)
    assert found.per_position == PSEUDO_COUNTS[0] and found.bits_per_dim < 0.01


def test_digits():
    images = data.load(DataConfig(source="digits"))
    assert histogram_code(images) == pytest.approx(2.3, abs=0.1)
