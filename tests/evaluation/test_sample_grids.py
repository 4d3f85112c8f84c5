"""Grids of samples of conditional models: rows of classes, contexts beside samples and truth."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conditional_images import LEVELS, NAMES, SIDE, SPECS, conditional_images

from flowpp.config.build import build_model
from flowpp.evaluation import sample_grids
from flowpp.evaluation.sample_grids import beside, context_tiles, training_panel
from flowpp.evaluation.sampling import sample
from flowpp.runtime.random_state import seeded_generator
from tiny import TINY

SHAPE = (1, SIDE, SIDE)


def panel_of(kind, count):
    images = conditional_images(kind)
    generator = torch.Generator().manual_seed(0)
    model = build_model(TINY.model, SHAPE, LEVELS, generator, SPECS[kind])
    contexts = images.context_of("test")
    panel = training_panel(model, count, seeded_generator(0), images.test, contexts)
    return model, images, contexts, panel


@pytest.mark.parametrize(("count", "columns"), [(7, 2), (3, 1), (64, 21)])
def test_a_row_for_each_class(count, columns):
    model, _, _, panel = panel_of("labels", count)
    assert panel.columns == columns and tuple(panel.rows_named) == NAMES
    rows = np.arange(3).repeat(columns)
    expected = sample(model, SHAPE, 3 * columns, seeded_generator(0), contexts=rows)
    np.testing.assert_array_equal(panel.images, expected)


def test_fewer_images_than_classes_are_of_the_first():
    assert panel_of("labels", 2)[-1].rows_named == ["cat", "dog"]


@pytest.mark.parametrize(("count", "rows", "columns"), [(8, [0, 4], 4), (64, range(9), 8)])
def test_contexts_beside_samples_and_truth(count, rows, columns):
    """Images are spread over the held-out ones, with two in a row if there are many."""
    model, images, contexts, panel = panel_of("images", count)
    rows = list(rows)
    assert panel.columns == columns
    assert list(panel.columns_named) == ["context", "sample", "sample", "truth"] * (columns // 4)
    tiles = panel.images.reshape(len(rows), 4, *SHAPE)
    np.testing.assert_array_equal(tiles[:, 0], contexts[rows])
    np.testing.assert_array_equal(tiles[:, 3], images.test[rows])
    given = contexts[rows].repeat(2, axis=0)
    expected = sample(model, SHAPE, len(given), seeded_generator(0), contexts=given)
    np.testing.assert_array_equal(tiles[:, 1:3].reshape(-1, *SHAPE), expected)


def test_vectors_of_spread_images():
    model, _, contexts, panel = panel_of("vectors", 3)
    expected = sample(model, SHAPE, 3, seeded_generator(0), contexts=contexts[[0, 3, 6]])
    np.testing.assert_array_equal(panel.images, expected)


def test_an_unconditional_model_has_samples_alone():
    images = conditional_images("labels")
    model = build_model(TINY.model, SHAPE, LEVELS)
    panel = training_panel(model, 5, seeded_generator(0), images.test)
    expected = sample(model, SHAPE, 5, seeded_generator(0))
    np.testing.assert_array_equal(panel.images, expected)
    assert panel.columns is None and not panel.rows_named


def test_contexts_are_shown_as_images():
    mask = conditional_images("mask")
    contexts = mask.context_of("test")
    shown = context_tiles(mask.context, contexts, SHAPE, LEVELS)
    visible = contexts[:, 1:] > 0
    np.testing.assert_array_equal(shown[visible], mask.test[visible])
    assert (shown[~visible] == (LEVELS - 1) // 2).all()
    small = np.array([[[[1, 2]]]], np.uint8)
    large = context_tiles(SPECS["images"], small, (3, 2, 4), LEVELS)
    assert large.shape == (1, 3, 2, 4) and large[0, 2].tolist() == [[1, 1, 2, 2]] * 2
    colour = np.array([[[[1]], [[2]], [[9]]]], np.uint8)
    assert context_tiles(SPECS["images"], colour, (1, 1, 1), LEVELS).tolist() == [[[[4]]]]


def test_samples_without_truth():
    contexts = conditional_images("images").context_of("test")[:2]
    panel = beside(SPECS["images"], contexts, np.zeros((6, *SHAPE), np.uint8), None, LEVELS)
    assert panel.columns == 4 and list(panel.columns_named) == ["context", *["sample"] * 3]
    assert sample_grids.BESIDE == 2
