"""Settings of a run that takes a second."""

from __future__ import annotations

from flowpp.config import (
    Config,
    ContextConfig,
    DataConfig,
    FlowConfig,
    ModelConfig,
    TrainingConfig,
)

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
        schedule="warm-up 2",
        device="cpu",
        threads=1,
    ),
)
