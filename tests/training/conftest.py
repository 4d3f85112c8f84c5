"""Settings of a seven-step run, and the finished run."""

from __future__ import annotations

import dataclasses

import pytest

from flowpp.training.loop import train


@pytest.fixture(scope="module")
def config(tiny_config):
    """Settings with dropout, and a batch size that does not divide the number of images."""
    settings = dataclasses.replace(
        tiny_config.training, steps=7, batch_size=50, evaluate_every=3, log_every=2
    )
    return dataclasses.replace(tiny_config, training=settings)


@pytest.fixture(scope="module")
def uninterrupted(config, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "uninterrupted"
    train(config, out)
    return out
