"""Fewer training images than the data-dependent initialization may use."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from flowpp.runtime.distributed import SINGLE_PROCESS
from flowpp.training.loop import train
from flowpp.training.setup import initial_state, prepare
from tiny import TINY


def with_batches(**sizes):
    return replace(TINY, training=replace(TINY.training, **sizes))


def test_all_images_are_used_if_there_are_fewer():
    states = []
    for size in (1500, 1_000_000):
        config = with_batches(init_batch_size=size)
        images, model = prepare(config)
        states.append(initial_state(config, images, model, SINGLE_PROCESS, None)[0])
    for a, b in zip(*(s.model.parameters() for s in states), strict=True):
        assert torch.equal(a, b)


def test_a_batch_must_not_be_larger_than_the_data(tmp_path):
    with pytest.raises(ValueError, match="batch_size must be at most the 1500 training images"):
        train(with_batches(batch_size=1501), tmp_path)
