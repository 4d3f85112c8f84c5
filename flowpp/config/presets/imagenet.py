"""Downsampled ImageNet, as in the released code."""

from __future__ import annotations

from dataclasses import replace

from flowpp.config.settings import (
    Config,
    ContextConfig,
    DataConfig,
    FlowConfig,
    ModelConfig,
    TrainingConfig,
)

IMAGENET32_FLOW = FlowConfig(
    layout="columns 4, columns 3, squeeze, channels 3, columns 3",
    filters=128,
    blocks=20,
    components=32,
    dropout=0.0,
    weight_norm=True,
    activate_last=True,
    convolution="none",
)
IMAGENET32 = Config(
    preset="imagenet32",
    description="Flow++ on ImageNet 32x32 (169.0M): 3.86 bits/dim published (Table 1). "
    "Architecture of the released code. The figure is for the PNG version of the data.",
    model=ModelConfig(
        flow=IMAGENET32_FLOW,
        dequantizer=replace(IMAGENET32_FLOW, layout="columns 4, columns 4", blocks=8),
        context=ContextConfig(blocks=8, layer_norm=True, attention="attention"),
    ),
    data=DataConfig(source="imagenet32"),
    training=TrainingConfig(
        steps=400_000,
        batch_size=32,
        learning_rate=1e-3,
        schedule="warm-up 5000, constant 50000, exponential 0.99995 0.3",
        ema_decay=0.999222,
        init_batch_size=32,
        evaluate_every=50_000,
    ),
)

LARGE_FLOW = FlowConfig(
    layout="squeeze, columns 4, squeeze, channels 2, columns 2, squeeze, channels 2, columns 2",
    filters=96,
    blocks=16,
    components=4,
    dropout=0.0,
    activate_last=True,
    convolution="none",
)
LARGE_MODEL = ModelConfig(
    flow=LARGE_FLOW,
    dequantizer=replace(LARGE_FLOW, layout="columns 4", blocks=5, attention="none"),
    context=ContextConfig(blocks=5, layer_norm=True),
)
IMAGENET64 = Config(
    preset="imagenet64",
    description="Flow++ on ImageNet 64x64 (73.5M): 3.69 bits/dim published (Table 1). "
    "Architecture of the released code. The figure is for the PNG version of the data. The "
    "released learning rate becomes undefined and negative late in training; here it decays as "
    "evidently intended.",
    model=LARGE_MODEL,
    data=DataConfig(source="imagenet64"),
    training=TrainingConfig(
        steps=400_000,
        batch_size=72,
        learning_rate=4e-4,
        schedule="warm-up 10000, constant 50000, exponential 0.99995 0.75, constant 230000, "
        "linear 240000 0.025, constant 280000, linear 290000 0.0025",
        ema_decay=0.999,
        init_batch_size=72,
        evaluate_every=50_000,
    ),
)
IMAGENET64_5BIT = replace(
    IMAGENET64,
    preset="imagenet64-5bit",
    description="Flow++ on ImageNet 64x64 with 5 bits (73.5M); no published figure. "
    "Architecture of the released code.",
    data=DataConfig(source="imagenet64", bits=5),
    training=replace(
        IMAGENET64.training,
        batch_size=60,
        init_batch_size=60,
        schedule="warm-up 10000, constant 50000, exponential 0.9995 0.75, constant 110000, "
        "linear 130000 0.025",
    ),
)
