"""Noise that bounds are computed with: its distribution, and that all numbers are independent."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from flowpp.augmentation import Augmenter
from flowpp.bijectors import Chain, ColumnStripes, InvertibleConv, Sigmoid
from flowpp.dequantization import (
    TruncatedNormalDequantizer,
    UniformDequantizer,
    VariationalDequantizer,
)
from flowpp.evaluation.bound import image_noise
from flowpp.model import FlowPlusPlus

SHAPE = (3, 2, 2)
COUNT = 2000
NORMAL = VariationalDequantizer(256, ColumnStripes(), nn.Identity(), Sigmoid())
AUGMENTER = Augmenter(256, 2, ColumnStripes(), nn.Identity(), Chain([]))
FALSE_ALARM = 1e-6
SIGMAS = 6.0


def check(noise: np.ndarray, distribution: str) -> None:
    """Require independent numbers of a distribution, (COUNT, ...)."""
    columns = noise.reshape(COUNT, -1)
    for column in columns.T:
        assert stats.kstest(column, distribution).pvalue > FALSE_ALARM
    between = np.corrcoef(columns, rowvar=False) - np.eye(columns.shape[1])
    assert np.abs(between).max() < SIGMAS / np.sqrt(COUNT)
    for first, second in zip(columns[:-1].T, columns[1:].T, strict=True):
        assert abs(np.corrcoef(first, second)[0, 1]) < SIGMAS / np.sqrt(COUNT)


@pytest.mark.parametrize(
    ("dequantizer", "distribution"),
    [
        (UniformDequantizer(256), "uniform"),
        (TruncatedNormalDequantizer(256, nn.Identity()), "uniform"),
        (NORMAL, "norm"),
    ],
    ids=["uniform", "truncated normal", "variational"],
)
def test_noise_of_dequantizers(dequantizer, distribution):
    generator = torch.Generator().manual_seed(1)
    check(dequantizer.draw_noise((COUNT, *SHAPE), generator=generator).numpy(), distribution)


def test_noise_of_an_augmented_model():
    model = FlowPlusPlus(UniformDequantizer(256), Chain([]), AUGMENTER)
    generator = torch.Generator().manual_seed(2)
    noise = model.draw_noise((COUNT, *SHAPE), generator=generator).numpy()
    assert noise.shape == (COUNT, 5, 2, 2)
    check(noise[:, :3], "uniform")
    check(noise[:, 3:], "norm")
    assert abs(np.corrcoef(noise[:, 0].ravel(), noise[:, 3].ravel())[0, 1]) < SIGMAS / 80


def test_noise_of_pairs_of_an_image_and_a_draw():
    model = FlowPlusPlus(NORMAL, InvertibleConv.create(3))
    pairs = [(image, draw) for image in range(100) for draw in range(20)]
    noise = image_noise(model, SHAPE, 3, pairs).double().numpy()
    check(noise, "norm")  # draws of an image follow one another
    check(noise.reshape(100, 20, -1).swapaxes(0, 1).reshape(COUNT, -1), "norm")  # images do
    again = image_noise(model, SHAPE, 3, pairs[7:9]).double().numpy()
    np.testing.assert_array_equal(again, noise[7:9])
