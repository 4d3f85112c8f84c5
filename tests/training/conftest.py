"""A model so small that a run of it takes a second."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowpp.config import (
    Config,
    ContextConfig,
    DataConfig,
    FlowConfig,
    ModelConfig,
    TrainingConfig,
)
from flowpp.training import Result, train

TINY = Config(
    preset="tiny",
    model=ModelConfig(
        flow=FlowConfig(
            layout="checkerboard 1, squeeze, channels 1", filters=4, blocks=1, components=2
        ),
        dequantizer=FlowConfig(layout="columns 1", filters=4, blocks=1, components=2),
        context=ContextConfig(filters=4, blocks=1),
    ),
    data=DataConfig(source="digits"),
    training=TrainingConfig(
        steps=3,
        batch_size=8,
        init_batch_size=32,
        log_every=1,
        evaluate_every=2,
        evaluation_images=16,
        sample_count=4,
        warmup_steps=2,
        threads=1,
    ),
)


@pytest.fixture(scope="session")
def tiny_config() -> Config:
    """Settings of a three-step run."""
    return TINY


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """A finished three-step run: read it, do not write into it."""
    out = tmp_path_factory.mktemp("runs") / "tiny"
    return out, train(TINY, out)
