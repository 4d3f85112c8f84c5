"""Small models for a CPU: bundled images, or your own."""

from __future__ import annotations

from dataclasses import replace

from flowpp.config.presets.recipe import with_recipe
from flowpp.config.settings import (
    Config,
    ContextConfig,
    DataConfig,
    FlowConfig,
    ModelConfig,
    TrainingConfig,
)

DIGITS_FLOW = FlowConfig(
    layout="columns 2, squeeze, channels 2, columns 2",
    filters=32,
    blocks=1,
    components=4,
    dropout=0.2,
    log_scale_floor=None,
)
DIGITS = with_recipe(
    Config(
        preset="digits",
        description="scikit-learn's 8x8 digits, 17 grey levels: two minutes on a CPU core.",
        model=ModelConfig(
            flow=DIGITS_FLOW,
            dequantizer=replace(DIGITS_FLOW, layout="columns 2"),
            context=ContextConfig(blocks=1),
        ),
        data=DataConfig(source="digits"),
        training=TrainingConfig(
            steps=1000,
            batch_size=32,
            schedule="warm-up 40, linear end 0",
            ema_decay=0.995,
            init_batch_size=256,
            evaluate_every=500,
            threads=1,  # a second one gains nothing on networks this small
        ),
    ),
    learning_rate=3e-3,
    optimizer="muon",
)

# Squeezed first: attention over all 512 positions of a half would take most of the time.
PHOTOS_FLOW = FlowConfig(
    layout="squeeze, checkerboard 4, channels 2, squeeze, checkerboard 2, channels 2",
    filters=32,
    blocks=1,
    components=8,
    dropout=0.0,
    log_scale_floor=None,
)
PHOTOS = with_recipe(
    Config(
        preset="photos",
        description="32x32 crops of scikit-learn's two colour photographs, without a download.",
        model=ModelConfig(
            flow=PHOTOS_FLOW,
            dequantizer=replace(
                PHOTOS_FLOW, layout="checkerboard 2", components=4, attention="none"
            ),
            context=ContextConfig(filters=16, blocks=1),
        ),
        data=DataConfig(source="photos"),
        training=TrainingConfig(
            steps=500,
            batch_size=16,
            schedule="warm-up 40, linear end 0",
            ema_decay=0.98,
            init_batch_size=64,
            evaluate_every=250,
            evaluation_images=64,
            sample_count=16,
        ),
    ),
    learning_rate=3e-3,
    optimizer="muon",
)

SMALL_FLOW = replace(PHOTOS_FLOW, dropout=0.1)
SMALL = with_recipe(
    Config(
        preset="small",
        description="Your own images (--data.path PATH), with automatic settings. PATH is a "
        "folder, an archive or an array. Size, channels, bits and model are chosen to fit the "
        "images and a CPU; settings given on the command line are kept.",
        model=ModelConfig(
            flow=SMALL_FLOW,
            dequantizer=replace(
                SMALL_FLOW, layout="checkerboard 2", components=4, attention="none"
            ),
            context=ContextConfig(filters=16, blocks=1),
        ),
        data=DataConfig(source="folder"),
        training=TrainingConfig(
            steps=2000,
            batch_size=16,
            schedule="warm-up 40, linear end 0",
            ema_decay=0.995,
            init_batch_size=64,
            evaluate_every=500,
            evaluation_images=256,
            sample_count=36,
        ),
    ),
    learning_rate=3e-3,
    orthogonal=True,
)
