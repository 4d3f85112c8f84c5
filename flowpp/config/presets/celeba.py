"""CelebA-HQ, as in the released code: models for samples."""

from __future__ import annotations

from dataclasses import replace

from flowpp.config.presets.imagenet import IMAGENET64, LARGE_FLOW, LARGE_MODEL
from flowpp.config.settings import DataConfig

CELEBA64_5BIT = replace(
    IMAGENET64,
    preset="celeba64-5bit",
    description="Flow++ on CelebA-HQ 64x64 with 5 bits (73.5M), for samples. "
    "Architecture of the released code; no published figure.",
    data=DataConfig(source="folder", size=64, bits=5),
    training=replace(
        IMAGENET64.training,
        batch_size=56,
        init_batch_size=56,
        learning_rate=4e-5,
        schedule="warm-up 20000, constant 50000, exponential 0.9995 0.25",
        evaluate_every=5000,
    ),
)
CELEBA64_3BIT = replace(
    CELEBA64_5BIT,
    preset="celeba64-3bit",
    description="Flow++ on CelebA-HQ 64x64 with 3 bits (73.5M), for samples. "
    "Architecture of the released code; no published figure.",
    data=DataConfig(source="folder", size=64, bits=3),
)
CELEBA128_5BIT = replace(
    CELEBA64_5BIT,
    preset="celeba128-5bit",
    description="Flow++ on CelebA-HQ 128x128 with 5 bits (122.8M), for samples. "
    "Architecture of the released code; no published figure.",
    model=replace(
        LARGE_MODEL,
        flow=replace(LARGE_FLOW, layout="squeeze, " + LARGE_FLOW.layout, blocks=12),
    ),
    data=DataConfig(source="folder", size=128, bits=5),
    training=replace(
        CELEBA64_5BIT.training,
        batch_size=48,
        init_batch_size=64,
        learning_rate=1e-5,
        schedule="warm-up 50000",
    ),
)
