"""A model so small that a run of it takes a second."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from tiny import TINY

from flowpp.config import Config
from flowpp.outcome import Result
from flowpp.training import train


@pytest.fixture(scope="session")
def tiny_config() -> Config:
    """Settings of a three-step run."""
    return TINY


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """A finished three-step run: read it, do not write into it."""
    out = tmp_path_factory.mktemp("runs") / "tiny"
    return out, train(TINY, out)


@pytest.fixture(scope="module")
def config(tiny_config):
    """With dropout, and a batch size that does not divide the number of images."""
    settings = dataclasses.replace(
        tiny_config.training, steps=7, batch_size=50, evaluate_every=3, log_every=2
    )
    return dataclasses.replace(tiny_config, training=settings)


@pytest.fixture(scope="module")
def undisturbed(config, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "undisturbed"
    train(config, out)
    return out
